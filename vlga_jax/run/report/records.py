"""The runs of a comparison: what is kept of each, how strategies are ordered, and how numbers are written."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.run.report.statistics import Interval

Unit = Literal["epochs", "seconds", "process_seconds"]
_UNITS: dict[Unit, str] = {
    "epochs": "trained epochs",
    "seconds": "seconds of compiling and training",
    "process_seconds": "seconds from the start of its process",
}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run: one strategy with one seed.

    Attributes:
      strategy, seed: name the run; no two runs of a comparison share both.
      best_fitness: highest validation accuracy in the search.
      test_accuracy: of the winner after its final training.
      num_parameters: of the winner.
      epochs: trained in the search, all networks together.
      seconds: spent on compiling and training in the search; all that its process took until then, where those count.
      epochs_saved: not trained because networks stopped early; not because the budget ended.
      points: after each newly trained network, in order: the epochs so far, and its fitness; NaN where it failed.
      times: the seconds so far, at each of `points`.
      generations: phase and generation, from 0, with the average and the best fitness of its individuals.
    """

    strategy: str
    seed: int
    best_fitness: float
    test_accuracy: float
    num_parameters: int
    epochs: int
    seconds: float
    epochs_saved: int
    points: tuple[tuple[float, float], ...]
    times: tuple[float, ...]
    generations: tuple[tuple[int, int, float, float], ...]


Groups = Mapping[str, Sequence[RunRecord]]
"""The runs of each strategy."""


def ranked(records: Sequence[RunRecord], reference: str) -> dict[str, list[RunRecord]]:
    """Returns each strategy's runs by seed, the strategy with the highest mean test accuracy first.

    Raises:
      ValueError: there are no runs, two share strategy and seed, or one has no finite result or too few times.
      InputError: no run has the strategy `reference`.
    """
    if not records:
        raise ValueError("there is nothing to compare: records is empty")
    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: (record.strategy, record.seed)):
        name = f"{record.strategy} with seed {record.seed}"
        runs = groups.setdefault(record.strategy, [])
        if runs and runs[-1].seed == record.seed:
            raise ValueError(f"{name} is there twice; give each run once")
        if not (math.isfinite(record.best_fitness) and math.isfinite(record.test_accuracy)):
            raise ValueError(f"{name} has no result: {record.best_fitness=}, {record.test_accuracy=}")
        if len(record.points) != len(record.times):
            raise ValueError(f"{name} has {len(record.points)} points and {len(record.times)} times")
        runs.append(record)
    if reference not in groups:
        raise InputError("reference", reference, f"no run has this strategy; use one of {', '.join(groups)}")
    return dict(sorted(groups.items(), key=lambda group: -mean(group[1], "test_accuracy")))  # sorted is stable


def budget_words(budget: float, unit: Unit) -> str:
    """Returns a budget with its unit."""
    return f"{budget:,.12g} {_UNITS[unit]}"


def count_words(groups: Groups) -> str:
    """Returns how many seeds the strategies have, for a figure's note."""
    counts = sorted({len(runs) for runs in groups.values()})
    if len(counts) > 1:
        return f"n = {counts[0]} to {counts[-1]} seeds"
    return f"n = {counts[0]} seed{'s' if counts[0] > 1 else ''}" + (" each" if len(groups) > 1 else "")


def interval_words(interval: Interval, *, sign: bool = False) -> str:
    """Returns a mean with its interval, where it has one: 0.9531 [0.9480, 0.9580]."""
    mean, low, high = (f"{value:{'+' if sign else ''}.4f}" for value in interval)
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


def mean(runs: Sequence[RunRecord], name: str) -> float:
    """Returns the mean over runs of one of their values, by its name."""
    return float(np.mean([getattr(run, name) for run in runs]))
