"""A comparison of search strategies over many seeds, as tables: comparison.csv has every run, comparison.md the result.

Equal records give equal bytes, whatever their order.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vlga_jax.run.history import write_atomically
from vlga_jax.run.report.records import Groups, RunRecord, Unit, budget_words, interval_words, mean, ranked
from vlga_jax.run.report.statistics import (
    LEAST_FOR_BCA,
    NUM_RESAMPLES,
    Difference,
    Interval,
    bootstrap_mean,
    holm,
    paired,
    repeat_interval,
)

TABLES = ("comparison.csv", "comparison.md")  # files
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
    failures: Sequence[str] = (),
) -> list[Path]:
    """Returns the files written: comparison.csv and comparison.md.

    Args:
      records: the runs, in any order; at least one.
      directory: made if missing; files there are replaced, each at once.
      budget: what each run could spend, in `unit`.
      reference: the strategy that the others are compared with.
      left_out: strategies that belong to the comparison and are not among these runs.
      failures: which runs came to no result, and why.

    Raises:
      ValueError: there are no runs, or one cannot be compared.
      InputError: no run has the strategy `reference`.
    """
    groups = ranked(records, reference)
    directory.mkdir(parents=True, exist_ok=True)
    table, text = TABLES
    contents = {
        table: _to_csv(groups),
        text: _to_markdown(groups, budget=budget, unit=unit, reference=reference),
    }
    if left_out:
        contents[text] += f"\nNot in this table, nor in its adjustment of p: {', '.join(left_out)}.\n"
    if failures:
        told = "\n".join(f"- {failure}" for failure in failures)
        contents[text] += f"\nRuns that came to no result and count nowhere above:\n\n{told}\n"
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]


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
    numbers = (
        "test accuracy",
        "a repeat's",
        "best fitness",
        f"difference to {reference}",
        "adjusted p",
        "and in fitness",
    )
    header = ("strategy", "n", *numbers, "epochs", "epochs saved", "seconds")
    lines = [_row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    for strategy, runs in groups.items():
        compared = ("", "", "") if strategy == reference else ("no common seed", "", "")
        if strategy in differences:
            words, words_of_fitness = (_difference_words(of[strategy], len(runs)) for of in (differences, of_fitness))
            compared = words, _p_words(adjusted[strategy]), words_of_fitness
        accuracies = [run.test_accuracy for run in runs]
        cells = (
            f"**{strategy}** (reference)" if strategy == reference else strategy,
            f"{len(runs)}",
            interval_words(bootstrap_mean(accuracies)),
            _repeat_words(accuracies),
            interval_words(bootstrap_mean([run.best_fitness for run in runs])),
            *compared,
            f"{mean(runs, 'epochs'):,.0f}",
            f"{mean(runs, 'epochs_saved'):,.0f}",
            f"{mean(runs, 'seconds'):,.1f}",
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


def _repeat_words(accuracies: Sequence[float]) -> str:
    low, high = np.clip(repeat_interval(accuracies), 0.0, 1.0)
    return "" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


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
        "saved those that early stopping spared; all are means of n runs, one for each seed. A repeat's is where the "
        "mean test accuracy of as many other seeds is expected, with 95 % (prediction interval, by Student's t).",
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
