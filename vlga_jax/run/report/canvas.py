"""What figures share: their style, a page with its words, axes of fitness and of phases, and how files are written.

Equal figures give equal bytes, whatever the machine's date and matplotlib settings, with one version of matplotlib.
"""

import functools
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#0072B2"  # Okabe and Ito's: told from the greys by every eye, and dark in black and white
GREY, GRID, BAND, TEXT = "#808080", "#DDDDDD", "#F2F2F2", "#222222"
FONT_SIZE = 9.0
LEAST_SPAN = 0.02
"""Of an axis of accuracies: smaller differences are noise, and need not look like progress."""
_BESIDE_WORDS = 0.12  # inches between the page's edge and its words
_METADATA = {"svg": {"Date": None, "Creator": "vlga_jax"}, "png": {"Software": "vlga_jax"}}
FORMS = tuple(_METADATA)
"""The kinds of files that `write` writes."""
_STYLE = {
    "svg.hashsalt": "vlga_jax",  # else ids of SVG elements are random
    "svg.fonttype": "path",  # looks the same where the font is missing
    "font.size": FONT_SIZE,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def style() -> AbstractContextManager[None]:
    """Returns the context in which every figure is drawn and written."""
    import matplotlib.style  # slow to import, and only needed where something is drawn

    return matplotlib.style.context(["default", _STYLE])


def page(
    title: str, notes: Iterable[str], *, width: float, height: float, left: float = 0.75, right: float = 0.15
) -> tuple["Figure", "Axes"]:
    """Returns a figure with its words and empty axes; places are in inches, whatever will be drawn.

    Args:
      title: one line.
      notes: stand below the title, each on lines of its own, broken where the page ends.
      width: of the figure.
      height: of the axes with their labels, the words not counted.
      left, right: of the axes, what is kept for labels.
    """
    figure, above = page_of_words(title, notes, width=width, height=height)
    axes = add_axes(figure, left, above, width - left - right, height - 0.5)
    return figure, axes


def page_of_words(title: str, notes: Iterable[str], *, width: float, height: float) -> tuple["Figure", float]:
    """Returns a figure with a title and notes, as in `page`, and how many inches they take from its top.

    Args:
      title: one line.
      notes: stand below the title.
      width: of the figure.
      height: of what will be drawn below the words.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps global state and may want a display

    lines = [line for note in notes for line in broken(note, width - 2 * _BESIDE_WORDS)]
    above = 0.6 + 0.18 * len(lines)
    height += above
    figure = Figure(figsize=(width, height))
    figure.text(_BESIDE_WORDS / width, 1 - 0.22 / height, title, fontsize=11, fontweight="bold")
    for place, line in enumerate(lines):
        figure.text(_BESIDE_WORDS / width, 1 - (0.43 + 0.18 * place) / height, line)
    return figure, above


def add_axes(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Returns new axes of a figure; all in inches, `left` and `top` from the figure's edges."""
    page_width, page_height = (float(inches) for inches in figure.get_size_inches())
    bottom = page_height - top - height
    return figure.add_axes((left / page_width, bottom / page_height, width / page_width, height / page_height))


def broken(text: str, width: float) -> list[str]:
    """Returns the lines of a text that is broken between words to a width in inches; one longer word stays whole."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def text_width(text: str, *, bold: bool = False) -> float:
    """Returns about how many inches a text takes in a line, at most: grid fitting widens a letter a little."""
    return 1.04 * sum(_advance(letter, bold) for letter in text) / 72


@functools.cache
def _advance(letter: str, bold: bool) -> float:
    """Returns how many points a letter moves the next one on, kerning left out: measured once, not in every text."""
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.ft2font import LoadFlags

    font = get_font(findfont(FontProperties(family=["DejaVu Sans"], weight="bold" if bold else "normal")))
    if not font.get_char_index(ord(letter)):  # it has no such letter
        return FONT_SIZE
    font.set_size(FONT_SIZE, 72)
    return font.load_char(ord(letter), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 2**16


def mark_phases(axes: "Axes", spans: Sequence[tuple[int, float, float]]) -> None:
    """Names phases above the axes, every second one on a band.

    Args:
      axes: horizontally, the generations of a search.
      spans: of each phase, its number from 1 and where it begins and ends.
    """
    crowded = len(spans) > 6
    for index, (number, left, right) in enumerate(spans):
        if index % 2:
            axes.axvspan(left, right, color=BAND, linewidth=0, zorder=0)
        _write_above(axes, f"{number}" if crowded else f"phase {number}", (left + right) / 2, "center")
    if crowded:
        _write_above(axes, "phase ", spans[0][1], "right")


def _write_above(axes: "Axes", text: str, x: float, align: str) -> None:
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 5),
        textcoords="offset points",
        horizontalalignment=align,
        verticalalignment="bottom",
    )


def draw_fitness_axis(axes: "Axes", bottom: float, top: float, *, label: str = "fitness (validation accuracy)") -> None:
    """Makes the vertical axis one of accuracies that runs at least from `bottom` to `top`."""
    axes.set_ylabel(label)
    bottom, top = accuracy_limits(bottom, top)
    axes.set_ylim(bottom, top)
    draw_accuracy_ticks(axes, "y", 8)


def accuracy_limits(low: float, high: float) -> tuple[float, float]:
    """Returns where an axis that shows accuracies from `low` to `high` begins and ends."""
    if high - low < LEAST_SPAN:
        middle = (low + high) / 2
        low, high = middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2
    # No accuracy lies outside 0 to 1; what lies on 1 still needs some air.
    low, high = max(0.0, low), min(1.0, high)
    return low, high + 0.05 * (high - low)


def draw_accuracy_ticks(axes: "Axes", which: Literal["x", "y"], most: int) -> None:
    """Gives an axis of accuracies round numbers, about so many at most, and a grid below all that is drawn."""
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10]))
    axes.grid(axis=which, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def write(figure: "Figure", directory: Path, name: str) -> list[Path]:
    """Returns the files written, name.svg and name.png; a file that is there is replaced at once."""
    written = []
    for form, metadata in _METADATA.items():
        content = io.BytesIO()
        figure.savefig(content, format=form, dpi=200, metadata=metadata)
        path = directory / f"{name}.{form}"
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content.getvalue())
        os.replace(part, path)
        written.append(path)
    return written
