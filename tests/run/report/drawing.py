"""What tests of figures share: small records, and figures kept instead of written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vlga_jax.run.report import canvas
from vlga_jax.run.report.comparison_figures import write_comparison_figures
from vlga_jax.run.report.records import RunRecord

MakeRecords = Callable[..., list[RunRecord]]
"""How many strategies, how many seeds; what the fixture `make_records` is."""


def run(strategy: str, seed: int, fitness: float, test_accuracy: float = 0.5) -> RunRecord:
    """Half of the fitness after 4 epochs and 1 second, all of it after 8 and 3."""
    points, generations = ((4.0, fitness / 2), (8.0, fitness)), ((0, 0, 0.125, 0.25), (1, 0, fitness / 2, fitness))
    return RunRecord(strategy, seed, fitness, test_accuracy, 1000, 8, 3.0, 0, points, (1.0, 3.0), generations)


SMALL = [
    *(run("vlga", seed, fitness, fitness) for seed, fitness in enumerate((0.5, 0.75, 1.0))),
    *(run("aging", seed, 0.5, 0.25 + 0.25 * seed) for seed in range(2)),
]


def drawn(
    records: list[RunRecord],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    budget: float = 8.0,
    unit: str = "epochs",
    crossovers: tuple[str, ...] = (),
) -> dict[str, Figure]:
    """The figures themselves, by name."""
    kept: dict[str, Figure] = {}

    def keep(figure: Figure, directory: Path, name: str) -> list[Path]:
        kept[name] = figure
        return []

    monkeypatch.setattr(canvas, "write", keep)
    write_comparison_figures(records, directory, budget=budget, unit=unit, crossovers=crossovers)  # type: ignore[arg-type]
    return kept


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def curves(axes: Axes, *, edges: bool = False) -> list[Line2D]:
    """Medians, or the edges of bands, which are faint; without the lines of the labels."""
    in_data = [line for line in axes.lines if line.get_transform().contains_branch(axes.transData)]
    return [line for line in in_data if (line.get_alpha() is not None) == edges]
