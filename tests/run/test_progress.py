"""What a person sees of a run in a log, and when it is expected to end."""

import io
import re
import sys
from pathlib import Path

import pytest

from tests.run.telling import RESULT, Clock, row, tell_of_a_run
from vlga_jax.run.progress import PlainProgress, summary_lines
from vlga_jax.run.rich_progress import RichProgress
from vlga_jax.run.run_view import FinalView, RunView


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
        "phase 1/3 generation 2/3 done: best 0.9410 average 0.9361, "
        "1 of 3 without a fitness, 1 already known, about 0 s to search",
        "mind the [red]gap",
        "final training: epochs 1 to 12 at most",
        "final training epoch 1/12 loss 0.5000 accuracy 0.9700 (best)",
        "final training ended after epoch 1: loss 0.5000 accuracy 0.9700, best 0.9700",
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
    listener.final_started(num_epochs=25, first_epoch=0, best_accuracy=None)
    for epoch, accuracy in enumerate(accuracies):
        listener.final_epoch_finished(epoch=epoch, num_epochs=25, loss=1.0, accuracy=accuracy)
    assert [int(epoch) for epoch in re.findall(r"epoch (\d+)/25", capsys.readouterr().out)] == shown


def test_plain_progress_of_a_resumed_final_training_calls_best_only_what_beats_the_epochs_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listener = PlainProgress(clock=Clock())
    listener.final_started(num_epochs=30, first_epoch=3, best_accuracy=0.75)
    for epoch, accuracy in enumerate((0.7, 0.75, 0.8), 3):
        listener.final_epoch_finished(epoch=epoch, num_epochs=30, loss=1.0, accuracy=accuracy)
    listener.run_finished(result=RESULT, best_dir=Path("best"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "final training epoch 6/30 loss 1.0000 accuracy 0.8000 (best)",
        "final training ended after epoch 6: loss 1.0000 accuracy 0.8000, best 0.8000",
    ]


def test_plain_progress_of_a_final_training_that_was_complete_before_names_no_epochs_to_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listener = PlainProgress(clock=Clock())
    listener.final_started(num_epochs=30, first_epoch=30, best_accuracy=0.75)
    assert capsys.readouterr().out == ""
    listener.run_finished(result=RESULT, best_dir=Path("best"))
    assert capsys.readouterr().out.startswith("final training ended after epoch 30, best 0.7500\n")


def test_time_left_of_a_final_training_does_not_grow_while_an_epoch_lasts() -> None:
    clock = Clock()
    view = FinalView(40, 0, None, clock)
    assert view.seconds_left() is None
    clock.now = 60.0
    view.epoch_finished(0, 1.0, 0.5)
    clock.now = 119.0
    assert view.seconds_left() == 39 * 60 and "at most 39 min 00 s left" in view.status()


def test_summary_tells_the_winner_where_another_phase_was_fitter() -> None:
    winner = {"fitness": 0.94, "found_in": {"phase": 2, "generation": 0, "individual": 0}}
    lines = summary_lines(RunView(), {**RESULT, "architecture": winner}, Path("best"))
    assert [re.sub(r"^  (best fitness|winner) +", "", line) for line in lines[1:3]] == [
        "0.9512 validation accuracy",
        "0.9400, of phase 3; this network is trained and tested",
    ]
    assert not any("winner" in line for line in summary_lines(RunView(), RESULT, Path("best")))


def test_plain_progress_before_the_first_rung_is_heard_of_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    listener = PlainProgress(clock=clock)
    listener.run_started(workdir=Path("runs"), config={}, num_phases=1, num_generations=1, population_size=9)
    listener.generation_started(phase=0, generation=0, num_to_train=9, num_individuals=9)
    for network in range(5):
        clock.now += 12.0
        listener.epoch_finished(network=str(network), epoch=0, num_epochs=3, loss=2.0 - network / 8, accuracy=None)
    listener.individual_finished(row=row(0.5), seconds=1.0, replayed=False)
    clock.now += 29.0
    listener.epoch_finished(network="0", epoch=1, num_epochs=3, loss=1.0, accuracy=None)
    clock.now += 1.0
    listener.epoch_finished(network="0", epoch=2, num_epochs=3, loss=1.0, accuracy=None)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "phase 1/1 generation 1/1 training: epoch 1/3 loss 1.7500, 0 of 9 individuals done",
        "phase 1/1 generation 1/1 individual 1/9 fitness 0.5000 (best 0.5000) 1.0s",
        "phase 1/1 generation 1/1 training: epoch 3/3 loss 1.0000, 1 of 9 individuals done",
    ]


@pytest.mark.parametrize("make", [PlainProgress, RichProgress])
def test_progress_of_a_search_that_its_budget_will_end_says_when(
    make: type[PlainProgress | RichProgress], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    listener = make(clock=clock)
    listener.run_started(workdir=Path("runs"), config={}, num_phases=9, num_generations=9, population_size=9)
    listener.generation_started(phase=0, generation=0, num_to_train=9, num_individuals=9, budget_seconds_left=60.0)
    clock.now += 20.0
    listener.individual_finished(row=row(0.5), seconds=20.0, replayed=False)
    listener.generation_finished(rows=[row(0.5)])
    listener.close()
    assert "phase 1/9 generation 1/9 done: best 0.5000 average 0.5000, about 40 s to search" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("num_phases", "budget", "started", "placed"),
    [
        (1, {"epochs": 0, "seconds": 0.0}, "1 phase, 1000 generations of 9 individuals", "1/1 generation 2/1000"),
        (
            1,
            {"epochs": 9000, "seconds": 0.0},
            "1 phase, 1000 generations of 9 individuals, at most 9,000 epochs",
            "1/1 generation 2/1000",
        ),
        (1, {"epochs": 8999, "seconds": 0.0}, "1 phase, generations of 9 individuals, at most", "1/1 generation 2"),
        (
            1,
            {"epochs": 0, "seconds": 380.0},
            "1 phase, generations of 9 individuals, at most 6 min 20 s of evaluations",
            "1/1 generation 2",
        ),
        (
            20,
            {"epochs": 1400, "seconds": 9.0},
            "20 phases, 1000 generations of 9 individuals, at most 1,400 epochs or 9 s of evaluations",
            "1/20 generation 2/1000",
        ),
    ],
)
@pytest.mark.parametrize("make", [PlainProgress, RichProgress])
def test_progress_names_the_budget_and_no_total_that_only_it_decides(
    make: type[PlainProgress | RichProgress],
    num_phases: int,
    budget: dict[str, float],
    started: str,
    placed: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listener = make(clock=Clock())
    config = {"budget": budget}
    listener.run_started(
        workdir=Path("runs"), config=config, num_phases=num_phases, num_generations=1000, population_size=9
    )
    listener.generation_started(phase=0, generation=1, num_to_train=1, num_individuals=1)
    listener.generation_finished(rows=[row(0.5)])
    listener.close()
    out = " ".join(capsys.readouterr().out.split())
    assert f"searching in runs: {started} " in out
    assert f"phase {placed} done: best 0.5000" in out


def test_plain_progress_calls_a_network_that_costs_too_much_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    listener = PlainProgress(clock=Clock())
    listener.generation_started(phase=0, generation=0, num_to_train=1, num_individuals=1)
    listener.individual_finished(row=row(0.0, status="too_many_flops"), seconds=0.0, replayed=False)
    assert "individual 1/1 rejected: too_many_flops (best none yet)" in capsys.readouterr().out


def test_plain_progress_of_slow_epochs_is_heard_of_every_half_minute_with_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    clock.now = 1000.0
    listener = PlainProgress(clock=clock)
    listener.final_started(num_epochs=7, first_epoch=2, best_accuracy=None)  # goes on after two epochs
    for epoch in range(2, 7):
        clock.now += 20.0
        listener.final_epoch_finished(epoch=epoch, num_epochs=7, loss=1.0, accuracy=None)
    assert capsys.readouterr().out.splitlines() == [
        "final training: epochs 3 to 7 at most",
        "final training epoch 4/7 loss 1.0000, at most about 1 min 00 s left",
        "final training epoch 6/7 loss 1.0000, at most about 20 s left",
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
