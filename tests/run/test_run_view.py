"""Where a run stands, and when it is expected to end."""

from pathlib import Path
from typing import Any

import pytest

from tests.run.telling import Clock, row
from vlga_jax.run.run_view import RunView, duration


def started_view(clock: Clock, num_phases: int = 2, **budget: Any) -> RunView:
    view = RunView(clock)
    view.run_started(workdir=Path("run"), config={}, num_phases=num_phases, num_generations=2, population_size=4)
    view.generation_started(phase=0, generation=0, num_to_train=4, num_individuals=4, **budget)
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


def test_seconds_left_ends_with_the_budget_of_epochs() -> None:
    clock = Clock()
    view = started_view(clock, num_phases=20, budget_epochs_left=12)
    view.individual_finished(row=row(0.0, status="too_many_flops"), seconds=0.0, replayed=False)  # costs no epoch
    view.individual_finished(row=row(), seconds=0.0, replayed=True)
    train(view, clock, 8.0)
    train(view, clock, 12.0, status="stopped")
    assert view.seconds_left() == (12 - 6) * 20 / 6
    clock.now += 4
    assert view.seconds_left() == (12 - 6) * 20 / 6 - 4
    # Who failed began fewer epochs than it was to train for: the next generation knows what is left.
    view.generation_started(phase=0, generation=1, num_to_train=4, num_individuals=4, budget_epochs_left=9)
    assert view.seconds_left() == 9 * 20 / 6


def test_seconds_left_ends_with_the_budget_of_seconds() -> None:
    clock = Clock()
    view = started_view(clock, num_phases=20, budget_seconds_left=50.0)
    train(view, clock, 20.0)
    assert view.seconds_left() == 30
    clock.now += 40
    assert view.seconds_left() == 0


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
