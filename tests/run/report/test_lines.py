"""Every line has a look of its own, and its label a place of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from vlga_jax.run.report.lines import make_marks, spread


def test_make_marks_twelve_strategies_differ_in_two_ways_each() -> None:
    marks = list(make_marks([f"s{place}" for place in range(12)], "s3").values())
    looks = [(mark["color"], mark.get("dashes"), mark["marker"]) for mark in marks]
    for index, look in enumerate(looks):
        for other in looks[:index]:
            assert sum(a != b for a, b in zip(look, other, strict=True)) >= 2


def test_make_marks_colours_are_dark_enough_for_white_paper() -> None:
    for mark in make_marks([f"s{place}" for place in range(12)], "s3").values():
        red, green, blue = to_rgb(mark["color"])
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.7


def test_make_marks_any_order_gives_the_same_looks() -> None:
    assert make_marks(["a", "b", "c"], "b") == make_marks(["c", "b", "a"], "b")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([5.0], [5.0]),
        ([1.0, 3.0, 6.0], [1.0, 3.0, 6.0]),
        ([5.0, 5.0], [4.5, 5.5]),
        ([5.0, 5.0, 5.0, 9.0], [4.0, 5.0, 6.0, 9.0]),
        ([0.0, 0.0], [0.0, 1.0]),
        ([10.0, 10.0, 10.0], [8.0, 9.0, 10.0]),
    ],
)
def test_spread_worked_examples(wanted: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(spread(np.array(wanted), 1.0, 10.0), expected)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_spread_any_places_keep_order_gap_and_limits(wanted: list[float]) -> None:
    places = spread(np.array(sorted(wanted)), 0.5, 10.0)
    assert places[0] >= -1e-9 and places[-1] <= 10 + 1e-9
    assert np.all(np.diff(places) >= min(0.5, 10 / max(len(wanted) - 1, 1)) - 1e-9)
