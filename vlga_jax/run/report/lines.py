"""How the lines of a comparison are told apart: by marks, and by labels at their ends.

Lines differ by colour, dashes and marker, so that print in black and white and every eye can tell them apart.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from vlga_jax.run.report import canvas
from vlga_jax.run.report.statistics import Band
from vlga_jax.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Mark = Mapping[str, Any]
"""A line's look, as matplotlib's arguments."""

# Okabe and Ito's colours without yellow, which is lost on white paper; the reference is black.
_COLOURS = (canvas.BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ((5, 1.2), (1.2, 1.0), (7, 1.2, 1.2, 1.2), (3, 1, 1, 1, 1, 1))
_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
LABEL_GAP = 0.175  # inches from one label to the next
_LEAD, _SAMPLE = 0.3, 0.36  # inches of the line that leads to a label, and of its sample


class End(NamedTuple):
    """Where a line ends, in units of the axes, and what is written there."""

    name: str
    label: str
    x: float
    y: float


def end_label(name: str, value: float) -> str:
    """Returns what is written at the end of a line: its name, and its last value to four places."""
    return f"{name} {value:.4f}"


def make_marks(names: Iterable[str], reference: str) -> dict[str, Mark]:
    """Returns how each strategy's line looks in all figures; colour and dashes together repeat after twelve others.

    The order is that of the names, so that no result changes a look.
    """
    common = {"linewidth": 1.6, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5}
    marks: dict[str, Mark] = {reference: {**common, "color": "black", "marker": "o", "linewidth": 2.2}}
    for index, name in enumerate(sorted(set(names) - {reference})):
        marks[name] = {
            **common,
            "color": _COLOURS[index % len(_COLOURS)],
            "dashes": _DASHES[index % len(_DASHES)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
    return marks


def draw_curve(
    axes: "Axes",
    positions: Float[np.ndarray, " grid"],
    curve: Band,
    mark: Mark,
    *,
    with_band: bool = True,
    stepped: bool = False,
    mark_every: tuple[int, int] | None = None,
) -> None:
    """Draws a median line, with its band if that is wanted.

    Args:
      axes: with these positions horizontally.
      positions: ascending.
      curve: what is drawn at each position.
      mark: the line's look.
      with_band: whether to draw the band.
      stepped: whether a value holds until the next position; else straight lines join values.
      mark_every: the first position that has a marker, and how many further on the next; None marks all.
    """
    line: dict[str, Any] = {**mark, "drawstyle": "steps-post" if stepped else "default"}
    if with_band:
        look: dict[str, Any] = {"color": mark["color"], "alpha": 0.14, "linewidth": 0}
        axes.fill_between(positions, curve.low, curve.high, step="post" if stepped else None, zorder=2, **look)
        # In black and white bands are told apart by their edges.
        edge = {**line, "marker": "", "linewidth": 0.7, "alpha": 0.6}
        axes.plot(positions, curve.low, zorder=2.5, **edge)
        axes.plot(positions, curve.high, zorder=2.5, **edge)
    # What is dashed lies above what is not, and lets it show.
    axes.plot(positions, curve.median, zorder=3 if "dashes" in mark else 2.8, markevery=mark_every, **line)


def page_with_labels(
    title: str, notes: Iterable[str], labels: Collection[str], *, width: float, height: float
) -> tuple["Figure", "Axes"]:
    """Returns `canvas.page`, wider and higher by what the labels need that `label_ends` will write."""
    longest = max((canvas.text_width(label, bold=True) for label in labels), default=0.0)
    right = _LEAD + _SAMPLE + 0.2 + longest
    height = max(height, 0.8 + LABEL_GAP * len(labels))
    return canvas.page(title, notes, width=width + right, height=height, right=right)


def label_ends(axes: "Axes", ends: Sequence[End], marks: Mapping[str, Mark], *, bold: str) -> None:
    """Writes each line's label right of the axes, behind a sample of the line, at the height of the line's end.

    Labels that would overlap move apart, as little as possible and without changing their order; a thin line leads
    from each line's end to its label. Where there is no line, the axes say so.

    Args:
      axes: with the limits that they will keep, on `page_with_labels`.
      ends: of equal heights, the first stands above.
      marks: by name.
      bold: name of the line whose label stands out.
    """
    if not ends:
        axes.text(0.5, 0.5, "no strategy has a fitness", transform=axes.transAxes, horizontalalignment="center")
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    width, height = axes.get_position().size * figure.get_size_inches()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    upwards = sorted(ends, key=lambda end: end.y, reverse=True)[::-1]
    wanted = np.array([(end.y - bottom) / (top - bottom) * height for end in upwards])
    begin, stop = 1 + _LEAD / width, 1 + (_LEAD + _SAMPLE) / width
    anchored: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for end, want, place in zip(upwards, wanted / height, spread(wanted, LABEL_GAP, height) / height, strict=True):
        lead = [(end.x - left) / (right - left), begin - 0.06 / width]
        axes.plot(lead, [want, place], color=canvas.GREY, linewidth=0.6, zorder=1, **anchored)
        axes.plot([begin, (begin + stop) / 2, stop], [place] * 3, markevery=[1], **marks[end.name], **anchored)
        weight = "bold" if end.name == bold else "normal"
        axes.text(
            stop + 0.07 / width, place, end.label, verticalalignment="center_baseline", fontweight=weight, **anchored
        )


def spread(wanted: Float[np.ndarray, " labels"], gap: float, height: float) -> Float[np.ndarray, " labels"]:
    """Returns the places nearest to the wanted ones, in the same order, that lie a gap apart and within [0, height].

    Nearest by the sum of squared distances; the gap shrinks where the height does not suffice.

    Args:
      wanted: ascending.
      gap: at least this far apart.
      height: highest place.
    """
    steps = min(gap, height / max(len(wanted) - 1, 1)) * np.arange(len(wanted))
    return np.clip(isotonic_regression(wanted - steps).x, 0.0, height - steps[-1]) + steps
