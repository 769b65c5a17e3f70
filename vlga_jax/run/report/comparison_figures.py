"""A comparison of search strategies over many seeds, as figures: what a budget buys, what was won, how it went.

Equal records give equal bytes, whatever their order.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.run.report import canvas
from vlga_jax.run.report.comparison import (
    RunRecord,
    Unit,
    budget_words,
    count_words,
    interval_words,
    ranked,
)
from vlga_jax.run.report.generation_figures import draw_generations
from vlga_jax.run.report.lines import End, Mark, draw_curve, end_label, label_ends, make_marks, page_with_labels
from vlga_jax.run.report.statistics import Band, band, best_so_far, bootstrap_mean
from vlga_jax.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Groups = Mapping[str, Sequence[RunRecord]]

_SPENT = {
    "epochs": "epochs trained so far, all networks together",
    "seconds": "seconds of compiling and training so far",
    "process_seconds": "seconds from the start of the search's process",
}
_NUM_PLACES = 401  # of the budget's grid
_MOST_BANDS = 3  # more of them hide each other


def write_comparison_figures(
    records: Sequence[RunRecord],
    directory: Path,
    *,
    budget: float,
    unit: Unit,
    reference: str = "vlga",
    crossovers: tuple[str, ...] = (),
) -> list[Path]:
    """Returns the files written: best_so_far, test_accuracy, generations_average and generations_best, .svg and .png.

    Args:
      records: the runs, in any order; at least one.
      directory: made if missing; files there are replaced, each at once.
      budget: what each run could spend, in `unit`.
      reference: the strategy that the others are compared with.
      crossovers: strategies whose generations are shown; if none is named, there are no figures of generations.

    Raises:
      ValueError: there are no runs, or one cannot be compared.
      InputError: no run has the strategy `reference`, or one of `crossovers` with generations.
    """
    groups = ranked(records, reference)
    for name in crossovers:
        if not any(run.generations for run in groups.get(name, ())):
            known = ", ".join(name for name, runs in groups.items() if any(run.generations for run in runs))
            raise InputError("crossovers", name, f"no run of this strategy has generations; use some of {known}")
    marks = make_marks(groups, reference)
    directory.mkdir(parents=True, exist_ok=True)
    with canvas.style():
        figures = {
            "best_so_far": _draw_best_so_far(groups, marks, budget, unit, reference),
            "test_accuracy": _draw_test_accuracy(groups, budget, unit, reference),
        }
        for name in ("average", "best") if crossovers else ():
            shown = {strategy: groups[strategy] for strategy in crossovers}
            figures[f"generations_{name}"] = draw_generations(shown, marks, name, reference)
        return [path for name, figure in figures.items() for path in canvas.write(figure, directory, name)]


# ---- What a budget buys ----


def _draw_best_so_far(groups: Groups, marks: Mapping[str, Mark], budget: float, unit: Unit, reference: str) -> "Figure":
    grid = np.linspace(0.0, budget, _NUM_PLACES)
    curves = {name: _best_curve(runs, grid, unit) for name, runs in groups.items()}
    last = {name: float(curve.median[-1]) for name, curve in curves.items()}
    drawn = sorted((name for name in groups if not math.isnan(last[name])), key=lambda name: -last[name])
    banded = [reference, *[name for name in drawn if name != reference]][: 2 if len(drawn) > _MOST_BANDS else None]
    banded = [name for name in banded if not math.isnan(curves[name].high[-1])]
    ends = [End(name, end_label(name, last[name]), budget, last[name]) for name in drawn]
    notes = _best_so_far_notes(groups, drawn, banded, budget, unit, reference)
    figure, axes = page_with_labels("Best fitness so far", notes, [end.label for end in ends], width=5.6, height=3.4)
    tenth = _NUM_PLACES // 10
    for place, name in enumerate(drawn):
        mark_every = (tenth // 2 + place * 7 % tenth, tenth)  # markers of different lines stand apart
        with_band = name in banded
        draw_curve(axes, grid, curves[name], marks[name], with_band=with_band, stepped=True, mark_every=mark_every)
    axes.set_xlim(0.0, budget)
    axes.set_xlabel(_SPENT[unit])
    bottom = min((float(np.nanmin(curves[name].median[tenth:])) for name in drawn), default=0.0)
    top = max([*last.values(), *(float(curves[name].high[-1]) for name in banded)] if drawn else [1.0])
    canvas.draw_fitness_axis(axes, bottom, top, label="best fitness so far (validation accuracy)")
    label_ends(axes, ends, marks, bold=reference)
    return figure


def _best_so_far_notes(
    groups: Groups, drawn: Sequence[str], banded: Sequence[str], budget: float, unit: Unit, reference: str
) -> list[str]:
    notes = ["line: median over seeds; at its end: name and last median"]
    if banded:
        notes.append(f"band: 95 % bootstrap interval of the median, of {' and '.join(banded)}")
    if len(groups) > 1:
        notes.append(f"bold: {reference}, the reference")
    notes.append(f"{count_words(groups)}; budget: {budget_words(budget, unit)}")
    notes.append("the vertical axis begins at the lowest median after a tenth of the budget")
    if absent := [name for name in groups if name not in drawn]:
        notes.append(f"not drawn, since a seed has no fitness within the budget: {', '.join(absent)}")
    late = [_positions(run, unit)[-1:] for runs in groups.values() for run in runs]
    if num_late := sum(last > budget for positions in late for last in positions):
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


# ---- What was won ----


def _draw_test_accuracy(groups: Groups, budget: float, unit: Unit, reference: str) -> "Figure":
    names = list(groups)
    means = {name: bootstrap_mean([run.test_accuracy for run in groups[name]]) for name in names}
    words = {name: interval_words(means[name]) for name in names}
    even = len({len(runs) for runs in groups.values()}) == 1
    labels = {name: name if even else f"{name} (n = {len(groups[name])})" for name in names}
    with_interval = " with its 95 % bootstrap interval" if any(len(runs) > 1 for runs in groups.values()) else ""
    notes = [
        f"large: mean over seeds{with_interval}; small: each seed",
        *([f"diamond and dashed line: {reference}, the reference"] if len(groups) > 1 else []),
        f"{count_words(groups)}; budget: {budget_words(budget, unit)}",
    ]
    left = 0.3 + max(canvas.text_width(label, bold=True) for label in labels.values())
    right = 0.25 + max(canvas.text_width(text) for text in words.values())
    width, height = left + 4.0 + right, 0.75 + 0.34 * len(names)
    figure, axes = canvas.page("Test accuracy", notes, width=width, height=height, left=left, right=right)
    for place, name in enumerate(names):
        _draw_accuracies(axes, place, groups[name], words[name], reference=name == reference)
    if len(groups) > 1:
        axes.axvline(means[reference].mean, color=canvas.GREY, linewidth=1, dashes=(4, 2), zorder=1)
    axes.set_xlim(canvas.accuracy_limits(*axes.get_xlim()))
    canvas.draw_accuracy_ticks(axes, "x", 6)
    axes.set_xlabel("test accuracy of the winner")
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first at the top
    axes.set_yticks(range(len(names)), [labels[name] for name in names])
    axes.get_yticklabels()[names.index(reference)].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _draw_accuracies(axes: "Axes", place: int, runs: Sequence[RunRecord], words: str, *, reference: bool) -> None:
    """One row: the mean with its interval, in words too, and below it a faint dot for each seed."""
    if place % 2:
        axes.axhspan(place - 0.5, place + 0.5, color=canvas.BAND, linewidth=0, zorder=0)
    values = [run.test_accuracy for run in runs]
    mean, low, high = bootstrap_mean(values)
    # Steps of the golden ratio spread dots evenly, so that equal ones can be counted.
    below = place + 0.03 + 0.35 * ((np.arange(len(values)) + 0.5) * (math.sqrt(5) - 1) / 2 % 1)
    axes.scatter(values, below, s=11, color=canvas.GREY, alpha=0.5, linewidth=0, zorder=2, clip_on=False)
    above, colour = place - 0.15, "black" if reference else canvas.BLUE
    axes.plot([low, high], [above, above], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
    marker: dict[str, Any] = {"marker": "D" if reference else "o", "markersize": 7, "color": colour}
    axes.plot(mean, above, markeredgecolor="white", markeredgewidth=0.8, zorder=4, **marker)
    axes.annotate(
        words,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        verticalalignment="center",
    )
