"""What a person sees of a run in a log, and when it is expected to end."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.run.telling import Clock, row, tell_of_a_run
from vlga_jax.run.progress import PlainProgress, RunView, duration


def started_view(clock: Clock, num_phases: int = 2) -> RunView:
    view = RunView(clock)
    view.run_started(workdir=Path("run"), num_phases=num_phases, num_generations=2, population_size=4)
    view.generation_started(phase=0, generation=0, num_to_train=4, num_individuals=4)
    return view


def train(view: RunView, clock: Clock, seconds: float, **values: Any) -> None:
    clock.now += seconds
    view.individual_finished(row=row(**values), seconds=seconds, replayed=False)


def test_seconds_left_two_of_four_trained_counts_what_is_to_come() -> None:
    clock = Clock()
    view = started_view(clock)
    train(view, clock, 8.0)
    train(view, clock, 12.0)
    # 2 here, 4 / 2 in the phase's second generation, 4 + 2 in the second phase, at 10 s each
    assert view.seconds_left() == (2 + 2 + 6) * 10
    clock.now += 4
    assert view.seconds_left() == 96
    clock.now += 40  # no training is expected to take four times as long: the rest does not shrink for it
    assert view.seconds_left() == 90


def test_seconds_left_replayed_individuals_count_as_free() -> None:
    clock = Clock()
    view = started_view(clock)
    clock.now += 100
    view.individual_finished(row=row(), seconds=0.0, replayed=True)
    assert view.seconds_left() is None
    train(view, clock, 10.0)
    assert view.num_trained == 1
    assert view.seconds_left() == (2 + 2 + 6) * 10


def test_seconds_left_parallel_trainings_count_by_the_gap_between_them() -> None:
    clock = Clock()
    view = started_view(clock)
    for _ in range(3):  # each took 8 s, side by side
        clock.now += 2
        view.individual_finished(row=row(), seconds=8.0, replayed=False)
    assert view.seconds_left() == (1 + 2 + 6) * 2


def test_seconds_left_survivors_seen_are_not_expected_again() -> None:
    clock = Clock()
    view = started_view(clock)
    for _ in range(4):
        train(view, clock, 10.0)
    view.generation_finished([row() for _ in range(4)])
    view.generation_started(phase=0, generation=1, num_to_train=1, num_individuals=4)
    train(view, clock, 10.0, origin="child", generation=1)
    view.generation_finished([row(origin="child"), *(row(origin="survivor") for _ in range(3))])
    assert view.seconds_left() == (4 + 1) * 10


def test_seconds_left_open_ended_search_covers_this_phase() -> None:
    clock = Clock()
    view = started_view(clock, num_phases=0)
    train(view, clock, 10.0)
    assert view.seconds_left() == (3 + 2) * 10
    assert view.time_left_text() == "about 50 s left in this phase"
    assert view.place() == "phase 1 generation 1/2"


def test_seconds_left_nothing_to_train_is_unknown_rather_than_zero() -> None:
    clock = Clock()
    view = started_view(clock, num_phases=1)
    for _ in range(4):
        train(view, clock, 10.0)
    view.generation_started(phase=0, generation=1, num_to_train=0, num_individuals=4)
    assert view.seconds_left() is None
    assert view.time_left_text() == ""


def test_best_failed_and_equal_individuals_keep_the_first() -> None:
    view = started_view(Clock())
    view.individual_finished(row=row(0.0, status="diverged"), seconds=1.0, replayed=False)
    assert view.best is None and view.best_text() == "none yet"
    view.generation_finished([row(0.0, status="diverged"), row(0.7, individual=1), row(0.7, individual=2)])
    assert view.best is not None and view.best.individual == 1
    assert view.num_failed == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration_of_any_length_reads_well(seconds: float, text: str) -> None:
    assert duration(float(seconds)) == text


def test_plain_progress_of_a_network_that_stopped_says_when_and_does_not_call_it_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listener = PlainProgress(clock=Clock())
    listener.run_started(workdir=Path("runs"), config={}, num_phases=1, num_generations=1, population_size=2)
    listener.generation_started(phase=0, generation=0, num_to_train=2, num_individuals=2)
    stopped, whole = row(0.9, status="stopped", individual=0), row(0.5, individual=1)
    for each in (stopped, whole):
        listener.individual_finished(row=each, seconds=1.0, replayed=False)
    listener.generation_finished(rows=[stopped, whole])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "phase 1/1 generation 1/1 individual 1/2 stopped after 3 epochs at 0.9000 (best none yet) 1.0s",
        "phase 1/1 generation 1/1 individual 2/2 fitness 0.5000 (best 0.5000) 1.0s",
        "phase 1/1 generation 1/1 done: best 0.5000 average 0.5000, 1 stopped early",
    ]


def test_plain_progress_whole_run_prints_these_lines(capsys: pytest.CaptureFixture[str]) -> None:
    tell_of_a_run(PlainProgress(clock=Clock()))
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "searching in runs/[digits]: 3 phases, 3 generations of 10 individuals",
        "phase 1/3 generation 2/3 individual 4/10 fitness 0.9312 (best 0.9410) 2.1s",
        "phase 1/3 generation 2/3 individual 5/10 failed: diverged: loss is nan (best 0.9410) 0.5s",
        "phase 1/3 generation 2/3 done: best 0.9410 average 0.9361, 1 of 3 failed, 1 already known, about 0 s left",
        "mind the [red]gap",
        "final training: epochs 1 to 12 at most",
        "final training epoch 1/12 loss 0.5000 accuracy 0.9700 (best)",
        "finished in 0 s",
        "  best fitness   0.9512 validation accuracy",
        "  test accuracy  0.9722",
        "  parameters     12,345",
        "  evaluated      17 networks for 24 individuals, 2 trained this time",
        "  best network   runs/[digits]/best",
        "  everything     runs/[digits]",
    ]


@pytest.mark.parametrize(
    ("accuracies", "shown"),
    [
        ([None] * 25, [10, 20, 25]),  # trained on everything: nothing to improve
        ([0.5] * 25, [1, 10, 20, 25]),
        ([0.5, 0.4, 0.6] + [0.6] * 22, [1, 3, 10, 20, 25]),
    ],
)
def test_plain_progress_final_epochs_shows_every_tenth_and_improvements(
    accuracies: list[float | None], shown: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    listener = PlainProgress(clock=Clock())
    listener.final_started(num_epochs=25, first_epoch=0)
    for epoch, accuracy in enumerate(accuracies):
        listener.final_epoch_finished(epoch=epoch, num_epochs=25, loss=1.0, accuracy=accuracy)
    assert [int(epoch) for epoch in re.findall(r"epoch (\d+)/25", capsys.readouterr().out)] == shown


def test_plain_progress_of_slow_epochs_is_heard_of_every_minute_with_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    clock.now = 1000.0
    listener = PlainProgress(clock=clock)
    listener.final_started(num_epochs=7, first_epoch=2)  # goes on after two epochs
    for epoch in range(2, 7):
        clock.now += 40.0
        listener.final_epoch_finished(epoch=epoch, num_epochs=7, loss=1.0, accuracy=None)
    assert capsys.readouterr().out.splitlines() == [
        "final training: epochs 3 to 7 at most",
        "final training epoch 4/7 loss 1.0000, at most about 2 min 00 s left",
        "final training epoch 6/7 loss 1.0000, at most about 40 s left",
        "final training epoch 7/7 loss 1.0000",
    ]


def test_plain_progress_every_line_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    PlainProgress().message(text="hello")
    assert stream.flushed == "hello\n"
