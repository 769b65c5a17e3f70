"""What a budget buys: the best fitness so far against epochs or seconds, in one figure and strategy by strategy."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlga_jax.run.report import canvas
from vlga_jax.run.report.lines import End, Mark, draw_curve, end_label, label_ends, page_with_labels
from vlga_jax.run.report.records import Groups, RunRecord, Unit, budget_words, count_words, interval_words
from vlga_jax.run.report.statistics import Band, Interval, band, best_so_far
from vlga_jax.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPENT = {
    "epochs": "epochs trained so far, all networks together",
    "seconds": "seconds of compiling and training so far",
    "process_seconds": "seconds from the start of the search's process",
}
_FITNESS = "best fitness so far (validation accuracy)"
_NUM_PLACES = 401  # of the budget's grid
_TENTH = _NUM_PLACES // 10
_MOST_BANDS = 3  # more of them in one figure hide each other
_NUM_COLUMNS = 3
_PANEL_WIDTH, _PANEL_HEIGHT = 2.0, 1.3  # inches, at least
_BETWEEN, _ABOVE = 0.25, 0.55  # inches: between panels, and what a panel's two lines of words need


@dataclasses.dataclass(frozen=True, eq=False)
class _Shown:
    """What is drawn.

    Attributes:
      groups, budget, unit, reference: as in `draw_best_so_far`.
      grid: places of the budget.
      curves: of every strategy.
      last: median of each at the end of the budget; NaN if a seed has no fitness by then.
      drawn: strategies that have one, the highest first.
    """

    groups: Groups
    budget: float
    unit: Unit
    reference: str
    grid: Float[np.ndarray, " grid"]
    curves: Mapping[str, Band]
    last: Mapping[str, float]
    drawn: Sequence[str]

    def with_interval(self, names: Sequence[str]) -> list[str]:
        """Those whose median has an interval at the end of the budget."""
        return [name for name in names if not math.isnan(self.curves[name].high[-1])]


def draw_best_so_far(
    groups: Groups, marks: Mapping[str, Mark], *, budget: float, unit: Unit, reference: str
) -> dict[str, "Figure"]:
    """Returns the figure best_so_far; where its bands would hide each other, best_so_far_each has all of them.

    Args:
      groups: the runs of each strategy.
      marks: how each strategy's line looks.
      budget: what each run could spend, in `unit`.
      unit: what the horizontal axis counts.
      reference: the strategy that the others are compared with.
    """
    grid = np.linspace(0.0, budget, _NUM_PLACES)
    curves = {name: _best_curve(runs, grid, unit) for name, runs in groups.items()}
    last = {name: float(curve.median[-1]) for name, curve in curves.items()}
    drawn = sorted((name for name in groups if not math.isnan(last[name])), key=lambda name: -last[name])
    shown = _Shown(groups, budget, unit, reference, grid, curves, last, drawn)
    figures = {"best_so_far": _draw_together(shown, marks)}
    if len(drawn) > _MOST_BANDS:
        figures["best_so_far_each"] = _draw_each(shown, marks)
    return figures


def _draw_together(shown: _Shown, marks: Mapping[str, Mark]) -> "Figure":
    drawn, last, reference = shown.drawn, shown.last, shown.reference
    first = [reference, *[name for name in drawn if name != reference]]
    banded = shown.with_interval(first[: 2 if len(drawn) > _MOST_BANDS else None])
    ends = [End(name, end_label(name, last[name]), shown.budget, last[name]) for name in drawn]
    notes = _best_so_far_notes(shown, banded)
    figure, axes = page_with_labels("Best fitness so far", notes, [end.label for end in ends], width=5.6, height=3.4)
    for place, name in enumerate(drawn):
        mark_every = (_TENTH // 2 + place * 7 % _TENTH, _TENTH)  # markers of different lines stand apart
        look: dict[str, Any] = {"with_band": name in banded, "stepped": True, "mark_every": mark_every}
        draw_curve(axes, shown.grid, shown.curves[name], marks[name], **look)
    axes.set_xlim(0.0, shown.budget)
    axes.set_xlabel(_SPENT[shown.unit])
    canvas.draw_fitness_axis(axes, *_fitness_range(shown, banded), label=_FITNESS)
    label_ends(axes, ends, marks, bold=reference)
    return figure


def _fitness_range(shown: _Shown, banded: Sequence[str]) -> tuple[float, float]:
    """From the lowest median after a tenth of the budget to the highest of what is drawn."""
    bottom = min((float(np.nanmin(shown.curves[name].median[_TENTH:])) for name in shown.drawn), default=0.0)
    highs = [float(shown.curves[name].high[-1]) for name in banded]
    return bottom, max([*(shown.last[name] for name in shown.drawn), *highs]) if shown.drawn else 1.0


def _best_so_far_notes(shown: _Shown, banded: Sequence[str]) -> list[str]:
    notes = ["line: median over seeds; at its end: name and last median"]
    if banded:
        notes.append(f"band: 95 % bootstrap interval of the median, of {' and '.join(banded)}")
    if len(shown.groups) > 1:
        notes.append(f"bold: {shown.reference}, the reference")
    return [*notes, *_shared_notes(shown)]


def _shared_notes(shown: _Shown) -> list[str]:
    """How many seeds and how much budget there is, where the axis begins, and what is left out."""
    counts = f"{count_words(shown.groups)}; budget: {budget_words(shown.budget, shown.unit)}"
    notes = [counts, "the vertical axis begins at the lowest median after a tenth of the budget"]
    if absent := [name for name in shown.groups if name not in shown.drawn]:
        notes.append(f"not drawn, since a seed has no fitness within the budget: {', '.join(absent)}")
    late = [_positions(run, shown.unit)[-1:] for runs in shown.groups.values() for run in runs]
    if num_late := sum(last > shown.budget for positions in late for last in positions):
        notes.append(f"not drawn: what {num_late} of {len(late)} runs reached after the budget")
    return notes


def _best_curve(runs: Sequence[RunRecord], grid: Float[np.ndarray, " grid"], unit: Unit) -> Band:
    """The best fitness so far over seeds; NaN as long as one of them has none, lest the line change its seeds."""
    curves = np.stack(
        [
            best_so_far(
                [(at, fitness) for at, (_, fitness) in zip(_positions(run, unit), run.points, strict=True)], grid
            )
            for run in runs
        ]
    )
    curves[:, np.any(np.isnan(curves), axis=0)] = np.nan
    return band(curves)


def _positions(run: RunRecord, unit: Unit) -> tuple[float, ...]:
    """What of the budget was spent after each newly trained network."""
    return tuple(epochs for epochs, _ in run.points) if unit == "epochs" else run.times


# ---- Strategy by strategy ----


def _draw_each(shown: _Shown, marks: Mapping[str, Mark]) -> "Figure":
    """A panel for each strategy, the fittest first, with axes that are alike."""
    words = {name: _words(shown.curves[name]) for name in shown.drawn}
    broad = max(_PANEL_WIDTH, *(canvas.text_width(text, bold=text in words) for pair in words.items() for text in pair))
    columns = min(_NUM_COLUMNS, len(words))
    rows = -(-len(words) // columns)
    left, step = 0.85, _ABOVE + _PANEL_HEIGHT + 0.2
    width = left + columns * (broad + _BETWEEN)
    banded = shown.with_interval(shown.drawn)
    limits = canvas.accuracy_limits(*_fitness_range(shown, banded))
    reference = shown.reference
    look: dict[str, Any] = {"stepped": True, "mark_every": (_TENTH // 2, 2 * _TENTH)}
    notes = _each_notes(shown, banded)
    figure, above = canvas.page_of_words(
        "Best fitness so far, each strategy", notes, width=width, height=rows * step + 0.35
    )
    for place, name in enumerate(words):
        row, column = divmod(place, columns)
        from_left = left + column * (broad + _BETWEEN)
        axes = canvas.add_axes(figure, from_left, above + row * step + _ABOVE - 0.2, broad, _PANEL_HEIGHT)
        if name != reference and reference in words:
            axes.plot(shown.grid, shown.curves[reference].median, color="black", linewidth=0.9, drawstyle="steps-post")
        draw_curve(axes, shown.grid, shown.curves[name], marks[name], **look)
        axes.set_xlim(0.0, shown.budget)
        axes.set_ylim(limits)
        canvas.draw_accuracy_ticks(axes, "y", 6)
        _write_panel_words(axes, name, words[name])
        axes.tick_params(labelleft=column == 0, labelbottom=place + columns >= len(words))
    inches = figure.get_size_inches()
    middle = (left + (columns * (broad + _BETWEEN) - _BETWEEN) / 2) / inches[0]
    figure.text(middle, 0.12 / inches[1], _SPENT[shown.unit], horizontalalignment="center")
    upright = 1 - (above + rows * step / 2) / inches[1]
    figure.text(
        0.2 / inches[0], upright, _FITNESS, rotation=90, horizontalalignment="center", verticalalignment="center"
    )
    return figure


def _words(curve: Band) -> str:
    return interval_words(Interval(*(float(values[-1]) for values in curve)))


def _write_panel_words(axes: "Axes", name: str, words: str) -> None:
    anchored: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(name, (0, 1), xytext=(0, 17), fontweight="bold", **anchored)
    axes.annotate(words, (0, 1), xytext=(0, 5), **anchored)


def _each_notes(shown: _Shown, banded: Sequence[str]) -> list[str]:
    with_interval = " and its 95 % bootstrap interval, which the band is" if banded else ""
    notes = [f"line: median over seeds; above it: name, last median{with_interval}"]
    if shown.reference in shown.drawn:
        notes.append(f"thin black line: {shown.reference}, the reference")
    return [*notes, *_shared_notes(shown)]
