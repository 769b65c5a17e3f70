"""Runs are ordered and numbers written as they should be; what cannot be compared is refused."""

import dataclasses
import math

import pytest

from vlga_jax.checks import InputError
from vlga_jax.run.report.records import RunRecord, budget_words, count_words, interval_words, ranked
from vlga_jax.run.report.statistics import Interval


def run(strategy: str, seed: int, test_accuracy: float, best_fitness: float = 0.5) -> RunRecord:
    return RunRecord(strategy, seed, best_fitness, test_accuracy, 1000, 40, 1.5, 8, ((4.0, 0.5),), (0.25,), ())


def test_ranked_orders_by_mean_test_accuracy_then_name() -> None:
    records = [run("b", 1, 0.5), run("c", 0, 0.25), run("c", 1, 1.0), run("a", 0, 0.5), run("b", 0, 0.5)]
    groups = ranked(records, "a")
    assert [(name, [run.seed for run in runs]) for name, runs in groups.items()] == [
        ("c", [0, 1]),
        ("a", [0]),
        ("b", [0, 1]),
    ]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "records is empty"),
        ([run("vlga", 0, 0.5), run("aging", 0, 0.5), run("vlga", 0, 0.25)], "vlga with seed 0 is there twice"),
        ([run("vlga", 4, math.nan)], "vlga with seed 4 has no result"),
        ([run("vlga", 4, 0.5, -math.inf)], "vlga with seed 4 has no result"),
        ([dataclasses.replace(run("vlga", 4, 0.5), times=())], "vlga with seed 4 has 1 points and 0 times"),
    ],
)
def test_ranked_records_that_cannot_be_compared_raise(records: list[RunRecord], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranked(records, "vlga")


def test_ranked_unknown_reference_raises_and_names_the_strategies() -> None:
    with pytest.raises(InputError, match="reference='classical': no run has this strategy; use one of aging, random"):
        ranked([run("aging", 0, 0.5), run("random_search", 0, 0.5)], "classical")


def test_words_of_numbers_are_readable() -> None:
    assert budget_words(1_234_567.0, "epochs") == "1,234,567 trained epochs"
    assert budget_words(0.5, "seconds") == "0.5 seconds of compiling and training"
    assert interval_words(Interval(0.95312, 0.948, 0.958)) == "0.9531 [0.9480, 0.9580]"
    assert interval_words(Interval(0.0, -0.25, 0.25), sign=True) == "+0.0000 [-0.2500, +0.2500]"
    assert interval_words(Interval(0.5, math.nan, math.nan)) == "0.5000"


@pytest.mark.parametrize(
    ("counts", "words"),
    [([1], "n = 1 seed"), ([20], "n = 20 seeds"), ([20, 20], "n = 20 seeds each"), ([3, 5, 4], "n = 3 to 5 seeds")],
)
def test_count_words_any_groups_state_the_seeds(counts: list[int], words: str) -> None:
    groups = {f"{place}": [run("a", seed, 0.5) for seed in range(count)] for place, count in enumerate(counts)}
    assert count_words(groups) == words
