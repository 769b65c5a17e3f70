"""The course report's two figures: average and best fitness per generation, one line for each phase.

Equal rows give equal bytes, whatever the machine's date and matplotlib settings, with one version of matplotlib.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlga_jax.run.history import HistoryRow
from vlga_jax.run.report import canvas
from vlga_jax.run.tracking import Scores, scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKER = {"color": canvas.BLUE, "linewidth": 1.8, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
_LINES: dict[str, dict[str, Any]] = {"average": {"marker": "o", **_MARKER}, "best": {"marker": "s", **_MARKER}}
_MOST_TICKS = 75


def write_figures(rows: Sequence[HistoryRow], directory: Path) -> list[Path]:
    """Returns the files written: average_fitness.svg and .png, best_fitness.svg and .png.

    Each shows fitness against the generations of the whole search, one line for each phase. Failed individuals have no
    fitness: they are left out, and the figure says how many.

    Args:
      rows: the history, in any order; at least one row.
      directory: made if missing; files there are replaced, each at once.

    Raises:
      ValueError: `rows` is empty.
    """
    if not rows:
        raise ValueError("there is no history to draw: rows is empty")
    phases = _phases(rows)
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    with canvas.style():
        for name in ("average", "best"):
            written += canvas.write(_draw(phases, name), directory, f"{name}_fitness")
    return written


class _Generation:
    """A generation's place on the axis, its rows and its scores."""

    def __init__(self, position: int, number: int, rows: list[HistoryRow]):
        self.position, self.number, self.rows = position, number, rows
        self.scores: Scores = scores(rows)


def _phases(rows: Sequence[HistoryRow]) -> list[list[_Generation]]:
    """The generations of each phase; positions count from 1 through the whole search."""
    ordered = sorted(rows, key=lambda row: (row.phase, row.generation, row.individual))
    phases: list[list[_Generation]] = []
    position = 0
    for _, in_phase in groupby(ordered, key=lambda row: row.phase):
        phases.append([])
        for generation, members in groupby(in_phase, key=lambda row: row.generation):
            position += 1
            phases[-1].append(_Generation(position, generation + 1, list(members)))
    return phases


def _draw(phases: list[list[_Generation]], name: str) -> "Figure":
    ranked = [generation for phase in phases for generation in phase if getattr(generation.scores, name) is not None]
    highest = max(ranked, key=lambda generation: getattr(generation.scores, name), default=None)  # the first of equals
    notes = _notes(phases, name, highest)
    width = min(10.0, 5.2 + 0.09 * phases[-1][-1].position)
    figure, axes = canvas.page(f"{name.capitalize()} fitness of each generation", notes, width=width, height=3.0)
    _draw_generation_axis(axes, phases)
    _draw_individuals(axes, phases)
    for phase in phases:
        positions = [generation.position for generation in phase]
        values = [getattr(generation.scores, name) for generation in phase]
        values = [float("nan") if value is None else value for value in values]  # a gap in the line
        axes.plot(positions, values, zorder=3, clip_on=False, **_LINES[name])
    _draw_fitness_axis(axes, empty=highest is None)
    if highest is not None:
        _ring(axes, highest, name)
    return figure


def _draw_generation_axis(axes: "Axes", phases: list[list[_Generation]]) -> None:
    """Numbers the generations of each phase from 1, and names the phases."""
    num_generations = phases[-1][-1].position
    spans = [(phase[0].rows[0].phase + 1, phase[0].position - 0.5, phase[-1].position + 0.5) for phase in phases]
    canvas.mark_phases(axes, spans)
    axes.set_xlim(0.5, num_generations + 0.5)
    shown = [generation for phase in phases for generation in phase]
    if num_generations > _MOST_TICKS:
        shown = [phase[-1] for phase in phases]
    axes.set_xticks([generation.position for generation in shown], [str(generation.number) for generation in shown])
    axes.tick_params(axis="x", labelsize=9 if num_generations <= _MOST_TICKS // 2 else 7)
    axes.set_xlabel("generation of the phase")


def _draw_individuals(axes: "Axes", phases: list[list[_Generation]]) -> None:
    for phase in phases:
        for generation in phase:
            fitnesses = [row.fitness for row in generation.rows if row.status == "ok"]
            positions = [generation.position] * len(fitnesses)
            axes.scatter(
                positions, fitnesses, s=10, color=canvas.GREY, alpha=0.55, linewidth=0, zorder=2, clip_on=False
            )


def _draw_fitness_axis(axes: "Axes", *, empty: bool) -> None:
    bottom, top = axes.get_ylim()
    if empty:
        bottom, top = 0.0, 1.0
        axes.text(0.5, 0.5, "no individual has a fitness", transform=axes.transAxes, horizontalalignment="center")
    canvas.draw_fitness_axis(axes, bottom, top)


def _ring(axes: "Axes", generation: _Generation, name: str) -> None:
    axes.plot(
        generation.position,
        getattr(generation.scores, name),
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=canvas.TEXT,
        markeredgewidth=1.2,
        zorder=4,
        clip_on=False,
    )


def _notes(phases: list[list[_Generation]], name: str, highest: _Generation | None) -> list[str]:
    """What the marks mean, the highest value and how many individuals are missing, line by line."""
    reached = [generation.scores for phase in phases for generation in phase]
    sizes = sorted({generation.num_individuals for generation in reached})
    individuals = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    lines = [f"line: {name} of each generation; dots: its individuals, n = {individuals}"]
    if highest is not None:
        place = f"phase {highest.rows[0].phase + 1}, generation {highest.number}"
        lines.append(f"ring: the highest, {getattr(highest.scores, name):.4f} in {place}")
    total = sum(generation.num_individuals for generation in reached)
    if num_failed := sum(generation.num_failed for generation in reached):
        lines.append(f"left out: {num_failed} of {total} individuals without a fitness")
    if num_stopped := sum(generation.num_stopped for generation in reached):
        lines.append(f"left out: {num_stopped} of {total} individuals that stopped early")
    return lines
