"""One table of a workload's measurements, in Markdown: medians over the rounds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Run = Mapping[str, Any]

_HEADER = (
    "",
    "seconds",
    "times ours",
    "compiling",
    "features",
    "training",
    "rest",
    "peak GB",
    "s a network: first phase",
    "second",
    "last",
    "last / second",
    "useful work, share of matrix rate",
    "mean fitness",
)


def table(runs: Mapping[str, Sequence[Run]], flops: float, matrix_flops: float) -> str:
    """Returns the table; the first row is what the others are compared with.

    Args:
      runs: by row, one a round; what `benchmarks.evaluate` or a peer wrote.
      flops: that training takes at least: a forward pass and both gradients of what is trained, per image and epoch.
      matrix_flops: floating-point operations a second of a matrix product on this machine.
    """
    baseline = _median(next(iter(runs.values())), _total)
    rows = [_row(name, of_row, baseline, flops, matrix_flops) for name, of_row in runs.items()]
    lines = [_HEADER, ["---", *["---:"] * (len(_HEADER) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _row(name: str, runs: Sequence[Run], baseline: float, flops: float, matrix_flops: float) -> list[str]:
    total, training, compiling, features = (_median(runs, part) for part in (_total, _trained, _waited, _prefixed))
    rest = _median(runs, lambda run: _total(run) - _trained(run) - _waited(run) - _prefixed(run))
    phases = [statistics.median(_by_phase(run)[phase] for run in runs) for phase in (0, 1, -1)]
    growth = statistics.median(_by_phase(run)[-1] / _by_phase(run)[1] for run in runs)
    fitness = statistics.median(statistics.mean(one["fitness"] for one in run["individuals"]) for run in runs)
    return [
        name,
        f"{total:.1f}",
        f"{total / baseline:.2f}",
        f"{compiling:.1f}",
        f"{features:.1f}",
        f"{training:.1f}",
        f"{rest:.1f}",
        f"{max(run['peak_memory_bytes'] for run in runs) / 1e9:.1f}",
        *[f"{seconds:.2f}" for seconds in phases],
        f"{growth:.2f}",
        f"{100 * flops / training / matrix_flops:.0f} %",
        f"{fitness:.3f}",
    ]


def _total(run: Run) -> float:
    """From the process's start to its end."""
    return run["process_seconds"]


def _trained(run: Run) -> float:
    """Seconds of initialising, steps and evaluation."""
    return run.get("training_seconds") or _sum(run, "train_seconds")


def _prefixed(run: Run) -> float:
    """Seconds of computing the frozen prefix's features; peers run it with every batch."""
    return run.get("features_seconds", 0.0)


def _waited(run: Run) -> float:
    """Seconds that compiling held the run up: here others train meanwhile, so less than it took."""
    return run["waiting_seconds"] if "waiting_seconds" in run else _sum(run, "compile_seconds")


def _sum(run: Run, field: str) -> float:
    return sum(individual[field] for individual in run["individuals"])


def _median(runs: Sequence[Run], part: Callable[[Run], float]) -> float:
    return statistics.median(part(run) for run in runs)


def _by_phase(run: Run) -> list[float]:
    """Mean seconds of a network in each phase, all counted."""
    phases: dict[int, list[float]] = {}
    for individual in run["individuals"]:
        phases.setdefault(individual["phase"], []).append(individual["seconds"])
    return [statistics.mean(phases[phase]) for phase in sorted(phases)]
