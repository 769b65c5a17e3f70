"""A comparison of search strategies over many seeds, as tables: comparison.csv has every run, comparison.md the result.

Equal records give equal bytes, whatever their order.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.run.history import write_atomically
from vlga_jax.run.report.statistics import (
    LEAST_FOR_BCA,
    NUM_RESAMPLES,
    Difference,
    Interval,
    bootstrap_mean,
    holm,
    paired,
)

Unit = Literal["epochs", "seconds", "process_seconds"]
UNITS: dict[Unit, str] = {
    "epochs": "trained epochs",
    "seconds": "seconds of compiling and training",
    "process_seconds": "seconds from the start of its process",
}
"""What a budget is counted in."""


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

COLUMNS = (
    "strategy",
    "seed",
    "best_fitness",
    "test_accuracy",
    "num_parameters",
    "epochs",
    "seconds",
    "epochs_saved",
)
_AVERAGED = ("test_accuracy", "best_fitness")


def write_tables(
    records: Sequence[RunRecord],
    directory: Path,
    *,
    budget: float,
    unit: Unit,
    reference: str = "vlga",
    left_out: Sequence[str] = (),
) -> list[Path]:
    """Returns the files written: comparison.csv and comparison.md.

    Args:
      records: the runs, in any order; at least one.
      directory: made if missing; files there are replaced, each at once.
      budget: what each run could spend, in `unit`.
      reference: the strategy that the others are compared with.
      left_out: strategies that belong to the comparison and are not among these runs.

    Raises:
      ValueError: there are no runs, or one cannot be compared.
      InputError: no run has the strategy `reference`.
    """
    groups = ranked(records, reference)
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        "comparison.csv": _to_csv(groups),
        "comparison.md": _to_markdown(groups, budget=budget, unit=unit, reference=reference),
    }
    if left_out:
        contents["comparison.md"] += f"\nNot in this table, nor in its adjustment of p: {', '.join(left_out)}.\n"
    for name, text in contents.items():
        write_atomically(directory / name, text)
    return [directory / name for name in contents]


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
    return dict(sorted(groups.items(), key=lambda group: -_mean(group[1], "test_accuracy")))  # sorted is stable


def budget_words(budget: float, unit: Unit) -> str:
    """Returns a budget with its unit."""
    return f"{budget:,.12g} {UNITS[unit]}"


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


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    return float(np.mean([getattr(run, name) for run in runs]))


def _to_csv(groups: Groups) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for strategy in sorted(groups):
        for run in groups[strategy]:
            cells = [getattr(run, name) for name in COLUMNS]
            writer.writerow(repr(float(cell)) if isinstance(cell, float) else cell for cell in cells)
    return text.getvalue()


def _to_markdown(groups: Groups, *, budget: float, unit: Unit, reference: str) -> str:
    differences = _differences(groups, reference, "test_accuracy")
    lines = ["# Comparison of search strategies", "", f"Each run could spend {budget_words(budget, unit)}.", ""]
    lines += _table(groups, differences, reference)
    for note in (*_method(groups), _significance(differences, reference), _missing(groups)):
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _table(groups: Groups, differences: Mapping[str, Difference], reference: str) -> list[str]:
    adjusted = dict(zip(differences, holm([each.p_value for each in differences.values()]), strict=True))
    of_fitness = _differences(groups, reference, "best_fitness")
    numbers = ("test accuracy", "best fitness", f"difference to {reference}", "adjusted p", "and in fitness")
    header = ("strategy", "n", *numbers, "epochs", "epochs saved", "seconds")
    lines = [_row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    for strategy, runs in groups.items():
        compared = ("", "", "") if strategy == reference else ("no common seed", "", "")
        if strategy in differences:
            words, words_of_fitness = (_difference_words(of[strategy], len(runs)) for of in (differences, of_fitness))
            compared = words, _p_words(adjusted[strategy]), words_of_fitness
        cells = (
            f"**{strategy}** (reference)" if strategy == reference else strategy,
            f"{len(runs)}",
            *(interval_words(bootstrap_mean([getattr(run, name) for run in runs])) for name in _AVERAGED),
            *compared,
            f"{_mean(runs, 'epochs'):,.0f}",
            f"{_mean(runs, 'epochs_saved'):,.0f}",
            f"{_mean(runs, 'seconds'):,.1f}",
        )
        lines.append(_row(cells))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _differences(groups: Groups, reference: str, value: str) -> dict[str, Difference]:
    """The other strategies' differences to the reference in a value, where they have a seed in common."""
    by_seed = {name: {run.seed: getattr(run, value) for run in runs} for name, runs in groups.items()}
    return {
        name: paired(by_seed[reference], values)
        for name, values in by_seed.items()
        if name != reference and by_seed[reference].keys() & values.keys()
    }


def _difference_words(difference: Difference, num_runs: int) -> str:
    words = interval_words(Interval(difference.mean, difference.low, difference.high), sign=True)
    return words if difference.n == num_runs else f"{words}, n = {difference.n}"


def _p_words(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _method(groups: Groups) -> list[str]:
    """What the columns are and how their intervals are made."""
    fewest = min(map(len, groups.values()))
    intervals = (
        "Brackets are 95 % intervals of the mean: bootstrap over seeds, bias-corrected and accelerated, "
        f"{NUM_RESAMPLES:,} resamples."
    )
    if fewest < LEAST_FOR_BCA:
        intervals += " Two seeds have a plain percentile interval, one seed has none."
    if any(1 < len(runs) < 10 for runs in groups.values()):
        intervals += " From fewer than ten seeds they are too narrow, and cover less than they say."
    columns = [[getattr(run, name) for run in runs] for runs in groups.values() for name in _AVERAGED]
    if any(len(values) > 1 and len(set(values)) == 1 for values in columns):
        intervals += " One of no width means that all seeds gave the same, not that others would."
    return [
        "Strategies are ordered by mean test accuracy. Test accuracy is the winner's, after its final training; best "
        "fitness is the highest validation accuracy in the search. Epochs and seconds are those of the search, epochs "
        "saved those that early stopping spared; all are means of n runs, one for each seed.",
        intervals,
    ]


def _significance(differences: Mapping[str, Difference], reference: str) -> str:
    """How the strategies were compared, and what so few seeds cannot show."""
    if not differences:
        return f"Nothing is compared with {reference}: no other strategy has a seed in common with it."
    count = len(differences)
    comparisons = f"{count} comparison{'s' if count > 1 else ''}"
    note = (
        f"Differences are of test accuracy, a strategy's less that of {reference} with the same seed, averaged over "
        "the seeds that both have. p is that of Wilcoxon's signed-rank test of these differences, two-sided and "
        f"exact, zeros left out, adjusted for {comparisons} (Holm 1979). The same difference in best fitness has its "
        "interval and no test."
    )
    most = max(difference.n for difference in differences.values())
    smallest = min(1.0, count * 2.0 ** (1 - most))
    if smallest > 0.05:
        note += (
            f" With {most} pair{'s' if most > 1 else ''} and {comparisons} no p below {smallest:.3f} can come out: "
            "so few seeds cannot tell strategies apart by this test."
        )
    return note


def _missing(groups: Groups) -> str:
    """Which seeds some strategies lack."""
    have = {name: {run.seed for run in runs} for name, runs in groups.items()}
    seeds = set().union(*have.values())
    lacking = {name: sorted(seeds - own) for name, own in have.items() if own != seeds}
    if not lacking:
        return f"Seeds, the same for every strategy: {_listed(sorted(seeds))}."
    gaps = "; ".join(f"{name} lacks {_listed(missing)}" for name, missing in lacking.items())
    return f"**Runs are missing.** Of the {len(seeds)} seeds, {_listed(sorted(seeds))}, {gaps}."


def _listed(seeds: Sequence[int]) -> str:
    """Numbers in ascending order, three or more in a row as a range: 0 to 3, 7, 9."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(words)
