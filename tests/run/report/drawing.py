"""What tests of figures share: small records, and figures kept instead of written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

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
    kept = instead_of_files(monkeypatch)
    write_comparison_figures(records, directory, budget=budget, unit=unit, crossovers=crossovers)  # type: ignore[arg-type]
    return kept


def instead_of_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """What will hold the figures by name, which are not written any more."""
    kept: dict[str, Figure] = {}

    def keep(figure: Figure, directory: Path, name: str) -> list[Path]:
        kept[name] = figure
        return []

    monkeypatch.setattr(canvas, "write", keep)
    return kept


def assert_words_apart(figure: Figure) -> int:
    """Asserts that no words leave the page or overlap; returns how many texts there are."""
    renderer = FigureCanvasAgg(figure)
    renderer.draw()
    undrawn = {text for axes in figure.axes for text in _undrawn_ticks(axes)}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in undrawn]
    texts = [text for text in texts if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent(renderer.get_renderer()) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    places = np.array([box.expanded(0.98, 0.98).extents for box in boxes])
    low, high = places[:, :2], places[:, 2:]
    meet = np.triu(np.all((low[:, None] <= high) & (low <= high[:, None]), axis=2), 1)
    assert not meet.any(), [(texts[one], texts[other]) for one, other in np.argwhere(meet)]
    return len(texts)


def _undrawn_ticks(axes: Axes) -> list[Text]:
    """Labels of ticks outside the axis."""
    (left, right), (low, high) = axes.get_xlim(), sorted(axes.get_ylim())
    beside = [text for text in axes.get_xticklabels() if not left <= text.get_position()[0] <= right]
    return beside + [text for text in axes.get_yticklabels() if not low <= text.get_position()[1] <= high]


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def curves(axes: Axes, *, edges: bool = False) -> list[Line2D]:
    """Medians, or the edges of bands, which are faint; without the lines of the labels."""
    in_data = [line for line in axes.lines if line.get_transform().contains_branch(axes.transData)]
    return [line for line in in_data if (line.get_alpha() is not None) == edges]
