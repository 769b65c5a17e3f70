"""A comparison of search strategies over many seeds, as figures: what a budget buys, what was won, how it went.

Equal records give equal bytes, whatever their order.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.run.report import canvas
from vlga_jax.run.report.budget_figures import draw_best_so_far
from vlga_jax.run.report.generation_figures import draw_generations
from vlga_jax.run.report.lines import make_marks
from vlga_jax.run.report.records import Groups, RunRecord, Unit, budget_words, count_words, interval_words, ranked
from vlga_jax.run.report.statistics import bootstrap_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = ("best_so_far", "best_so_far_each", "test_accuracy", "generations_average", "generations_best")


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

    With more than three strategies that have a fitness within the budget there is best_so_far_each, too. Figures of
    these names that were there before, and are not written now, are deleted.

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
            **draw_best_so_far(groups, marks, budget=budget, unit=unit, reference=reference),
            "test_accuracy": _draw_test_accuracy(groups, budget, unit, reference),
        }
        for name in ("average", "best") if crossovers else ():
            shown = {strategy: groups[strategy] for strategy in crossovers}
            figures[f"generations_{name}"] = draw_generations(shown, marks, name, reference)
        written = [path for name, figure in figures.items() for path in canvas.write(figure, directory, name)]
    for name in set(_NAMES) - set(figures):  # of other strategies
        for form in canvas.FORMS:
            (directory / f"{name}.{form}").unlink(missing_ok=True)
    return written


# ---- What was won ----


def _draw_test_accuracy(groups: Groups, budget: float, unit: Unit, reference: str) -> "Figure":
    names = list(groups)
    means = {name: bootstrap_mean([run.test_accuracy for run in groups[name]]) for name in names}
    words = {name: interval_words(means[name]) for name in names}
    even = len({len(runs) for runs in groups.values()}) == 1
    labels = {name: name if even else f"{name} (n = {len(groups[name])})" for name in names}
    with_interval = " with its 95 % bootstrap interval" if any(len(runs) > 1 for runs in groups.values()) else ""
    far = _far_below(groups, reference)
    notes = [
        f"large: mean over seeds{with_interval}; small: each seed",
        *([f"arrow: more of {' and '.join(far)} lies left of the axis"] if far else []),
        *([f"diamond and dashed line: {reference}, the reference"] if len(groups) > 1 else []),
        f"{count_words(groups)}; budget: {budget_words(budget, unit)}",
    ]
    left = 0.3 + max(canvas.text_width(label, bold=True) for label in labels.values())
    right = 0.25 + max(canvas.text_width(text) for text in words.values())
    width, height = left + 4.0 + right, 0.75 + 0.34 * len(names)
    figure, axes = canvas.page("Test accuracy", notes, width=width, height=height, left=left, right=right)
    for place, name in enumerate(names):
        _draw_accuracies(axes, place, groups[name], words[name], reference=name == reference, clipped=name in far)
    if far:
        near = [run.test_accuracy for name in names if name not in far for run in groups[name]]
        axes.set_xlim(min(near), max(run.test_accuracy for runs in groups.values() for run in runs))
    if len(groups) > 1:
        axes.axvline(means[reference].mean, color=canvas.GREY, linewidth=1, dashes=(4, 2), zorder=1)
    axes.set_xlim(canvas.accuracy_limits(*axes.get_xlim()))
    for name in far:
        _draw_arrow(axes, names.index(name))
    canvas.draw_accuracy_ticks(axes, "x", 6)
    axes.set_xlabel("test accuracy of the winner")
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first at the top
    axes.set_yticks(range(len(names)), [labels[name] for name in names])
    axes.get_yticklabels()[names.index(reference)].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _far_below(groups: Groups, reference: str) -> list[str]:
    """Strategies, the last first, whose lowest accuracy lies further below those of all others than these span."""
    kept, far = list(groups), []
    while len(kept) > 2 and kept[-1] != reference:
        lowest = min(run.test_accuracy for run in groups[kept[-1]])
        others = [run.test_accuracy for name in kept[:-1] for run in groups[name]]
        if min(others) - lowest <= max(np.ptp(others), canvas.LEAST_SPAN):
            break
        far.append(kept.pop())
    return far


def _draw_arrow(axes: "Axes", place: int) -> None:
    """Says in a row that what is missing lies to the left."""
    look: dict[str, Any] = {"color": canvas.GREY, "arrowstyle": "->", "linewidth": 1.2}
    ends: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": ("axes fraction", "data")}
    axes.annotate("", (0.005, place), xytext=(0.06, place), arrowprops=look, **ends)


def _draw_accuracies(
    axes: "Axes", place: int, runs: Sequence[RunRecord], words: str, *, reference: bool, clipped: bool
) -> None:
    """One row: the mean with its interval, in words too, and below it a faint dot for each seed."""
    if place % 2:
        axes.axhspan(place - 0.5, place + 0.5, color=canvas.BAND, linewidth=0, zorder=0)
    values = [run.test_accuracy for run in runs]
    mean, low, high = bootstrap_mean(values)
    # Steps of the golden ratio spread dots evenly, so that equal ones can be counted.
    below = place + 0.03 + 0.35 * ((np.arange(len(values)) + 0.5) * (math.sqrt(5) - 1) / 2 % 1)
    axes.scatter(values, below, s=11, color=canvas.GREY, alpha=0.5, linewidth=0, zorder=2, clip_on=clipped)
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
