"""Words are measured as they are drawn, and broken where the page ends."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vlga_jax.run.report import canvas


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("text", ["vlga_uniform_parents 0.9826", "n", "WWW iii ...", "95 % bootstrap interval"])
def test_text_width_is_no_less_than_what_is_drawn(text: str, bold: bool) -> None:
    with canvas.style():
        figure, _ = canvas.page("title", [], width=6.0, height=3.0)
        figure.set_dpi(200)
        drawn = figure.text(0, 0, text, fontweight="bold" if bold else "normal")
        renderer = FigureCanvasAgg(figure).get_renderer()
        inches = drawn.get_window_extent(renderer).width / figure.dpi
    assert inches <= canvas.text_width(text, bold=bold) <= 1.1 * inches + 0.02


def test_text_width_of_letters_that_the_font_has_not_is_about_that_of_a_square_each() -> None:
    assert canvas.text_width("\u7c7b\u522b\n") == pytest.approx(3 * 1.04 * canvas.FONT_SIZE / 72)


def test_broken_text_fits_the_width_and_keeps_its_words() -> None:
    text = "each of these words stands on one of the lines"
    lines = canvas.broken(text, 1.2)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(canvas.text_width(line) <= 1.2 for line in lines)
    for line, following in zip(lines, lines[1:], strict=False):
        assert canvas.text_width(f"{line} {following.split()[0]}") > 1.2


def test_broken_word_longer_than_the_width_stays_whole() -> None:
    assert canvas.broken("a successive_halving b", 0.3) == ["a", "successive_halving", "b"]
    assert canvas.broken("", 1.0) == []
