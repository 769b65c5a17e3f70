"""One table of a workload's measurements, in Markdown: medians over the rounds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Run = Mapping[str, Any]

_HEADER = (
    "",
    "seconds",
    "times ours",
    "compiling",
    "training",
    "rest",
    "peak GB",
    "s a network: first phase",
    "second",
    "last",
    "share of matrix rate",
    "mean fitness",
)


def table(runs: Mapping[str, Sequence[Run]], flops: float, matrix_flops: float) -> str:
    """Returns the table; the first row is what the others are compared with.

    Args:
      runs: by row, one a round; what `benchmarks.evaluate` or a peer wrote.
      flops: that training took at least: three forward passes of what is trained, per image and epoch.
      matrix_flops: floating-point operations a second of a matrix product on this machine.
    """
    baseline = _median(next(iter(runs.values())), "total_seconds")
    rows = [_row(name, of_row, baseline, flops, matrix_flops) for name, of_row in runs.items()]
    lines = [_HEADER, ["---", *["---:"] * (len(_HEADER) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _row(name: str, runs: Sequence[Run], baseline: float, flops: float, matrix_flops: float) -> list[str]:
    total = _median(runs, "total_seconds")
    training = statistics.median(_sum(run, "train_seconds") for run in runs)
    compiling = statistics.median(_waited(run) for run in runs)
    phases = [statistics.median(_by_phase(run)[phase] for run in runs) for phase in (0, 1, -1)]
    fitness = statistics.median(statistics.mean(one["fitness"] for one in run["individuals"]) for run in runs)
    return [
        name,
        f"{total:.1f}",
        f"{total / baseline:.2f}",
        f"{compiling:.1f}",
        f"{training:.1f}",
        f"{total - compiling - training:.1f}",
        f"{max(run['peak_memory_bytes'] for run in runs) / 1e9:.1f}",
        *[f"{seconds:.2f}" for seconds in phases],
        f"{100 * flops / training / matrix_flops:.0f} %",
        f"{fitness:.3f}",
    ]


def _waited(run: Run) -> float:
    """Seconds that compiling held the run up: here others train meanwhile, so less than it took."""
    return run["waiting_seconds"] if "waiting_seconds" in run else _sum(run, "compile_seconds")


def _sum(run: Run, field: str) -> float:
    return sum(individual[field] for individual in run["individuals"])


def _median(runs: Sequence[Run], field: str) -> float:
    return statistics.median(run[field] for run in runs)


def _by_phase(run: Run) -> list[float]:
    """Mean seconds of a network in each phase, all counted."""
    phases: dict[int, list[float]] = {}
    for individual in run["individuals"]:
        phases.setdefault(individual["phase"], []).append(individual["seconds"])
    return [statistics.mean(phases[phase]) for phase in sorted(phases)]
