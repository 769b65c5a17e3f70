"""How searches went: the course report's two figures, over many seeds and for several strategies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlga_jax.run.report import canvas
from vlga_jax.run.report.lines import End, Mark, draw_curve, end_label, label_ends, page_with_labels
from vlga_jax.run.report.records import Groups, RunRecord, count_words
from vlga_jax.run.report.statistics import Band, band
from vlga_jax.shapes import Bool

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_MARKERS = 30  # more of them hide the line

Course = tuple[Band, Bool[np.ndarray, " places"]]
"""The band over seeds of each generation, and where all seeds are in it."""


def draw_generations(groups: Groups, marks: Mapping[str, Mark], name: str, reference: str) -> "Figure":
    """Returns the figure of the average or best fitness of each generation, one line for each strategy.

    Args:
      groups: the runs of each strategy that is shown.
      marks: how each strategy's line looks.
      name: average or best.
      reference: the strategy whose label stands out.
    """
    from matplotlib.ticker import MaxNLocator

    places = sorted({entry[:2] for runs in groups.values() for run in runs for entry in run.generations})
    courses = {strategy: _course(runs, places, name) for strategy, runs in groups.items()}
    ends = []
    for strategy, (values, whole) in courses.items():
        shown = np.flatnonzero(~np.isnan(values.median))
        if len(shown):
            # Seeds that end late may be the better ones: a median of these few is drawn, but not named as the result.
            label = end_label(strategy, float(values.median[whole][-1])) if np.any(whole) else strategy
            ends.append(End(strategy, label, shown[-1] + 1.0, float(values.median[shown[-1]])))
    num_drawn = max((int(end.x) for end in ends), default=1)
    title, width = f"{name.capitalize()} fitness of each generation", min(9.0, 5.0 + 0.05 * num_drawn)
    notes = _notes(groups, courses, name, reference)
    figure, axes = page_with_labels(title, notes, [end.label for end in ends], width=width, height=3.2)
    canvas.mark_phases(axes, _phase_spans(places[:num_drawn]))
    for strategy, (values, whole) in courses.items():
        _draw_course(axes, values, whole, marks[strategy])
    axes.set_xlim(0.5, num_drawn + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.set_xlabel("generation, counted through the phases")
    canvas.draw_fitness_axis(axes, *axes.get_ylim())
    label_ends(axes, ends, marks, bold=reference)
    return figure


def _notes(groups: Groups, courses: Mapping[str, Course], name: str, reference: str) -> list[str]:
    notes = [f"line: median over seeds of each generation's {name}; at its end: name and last median of all seeds"]
    if any(len(runs) > 1 for runs in groups.values()):
        notes.append("band: 95 % bootstrap interval of the median")
    if len(groups) > 1 and reference in groups:
        notes.append(f"bold: {reference}, the reference")
    notes.append(count_words(groups))
    if not all(np.all(whole | np.isnan(values.median)) for values, whole in courses.values()):
        notes.append("hollow: of fewer seeds but at least half, the others have ended or failed")
    return notes


def _course(runs: Sequence[RunRecord], places: Sequence[tuple[int, int]], name: str) -> Course:
    """A strategy's course; there is none where fewer than half of its seeds are left."""
    column = {"average": 2, "best": 3}[name]
    curves = np.full((len(runs), len(places)), np.nan)
    for curve, run in zip(curves, runs, strict=True):
        for entry in run.generations:
            curve[places.index(entry[:2])] = entry[column]
    counts = np.count_nonzero(~np.isnan(curves), axis=0)
    curves[:, 2 * counts < len(runs)] = np.nan
    return band(curves), counts == len(runs)


def _draw_course(axes: "Axes", values: Band, whole: Bool[np.ndarray, " places"], mark: Mark) -> None:
    positions = np.arange(1.0, len(whole) + 1)
    draw_curve(axes, positions, values, {**mark, "marker": ""})
    look = {name: mark[name] for name in ("color", "marker", "markersize")}
    spaced = np.arange(len(whole)) % -(-len(whole) // _MOST_MARKERS) == 0
    for chosen, edge, face in ((whole & spaced, "white", mark["color"]), (~whole, mark["color"], "white")):
        axes.plot(
            positions[chosen],
            values.median[chosen],
            linestyle="none",
            zorder=4,
            **{**look, "markeredgecolor": edge, "markerfacecolor": face},
        )


def _phase_spans(places: Sequence[tuple[int, int]]) -> list[tuple[int, float, float]]:
    """Each phase's number and where it begins and ends among the generations, which count from 1."""
    spans: list[tuple[int, float, float]] = []
    for position, (phase, _) in enumerate(places, start=1):
        begins = position - 0.5
        if spans and spans[-1][0] == phase + 1:
            begins = spans.pop()[1]
        spans.append((phase + 1, begins, position + 0.5))
    return spans
