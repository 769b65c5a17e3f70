"""Best fitness so far: lines and bands are those of the records, together and strategy by strategy."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from tests.run.report.drawing import SMALL, MakeRecords, curves, drawn, run, words


@pytest.mark.parametrize(
    ("unit", "starts", "rises"), [("epochs", 4.0, 8.0), ("seconds", 1.0, 3.0), ("process_seconds", 1.0, 3.0)]
)
def test_best_so_far_line_is_the_median_step_of_the_budgets_unit(
    unit: str, starts: float, rises: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (axes,) = drawn(SMALL, tmp_path, monkeypatch, unit=unit)["best_so_far"].axes
    vlga, aging = curves(axes)
    for line, final in ((vlga, 0.75), (aging, 0.5)):
        places, values = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        assert np.isnan(values[places < starts]).all()
        assert (values[(places >= starts) & (places < rises)] == final / 2).all()
        assert (values[places >= rises] == final).all()
    # Of three seeds, and of two, a resample has the lowest, or the highest, alone often enough.
    assert [np.asarray(edge.get_ydata())[-1] for edge in curves(axes, edges=True)] == [0.5, 1.0, 0.5, 0.5]
    assert [text.get_text() for text in axes.texts] == ["aging 0.5000", "vlga 0.7500"]
    assert axes.get_xlim() == (0.0, 8.0)


def test_best_so_far_line_waits_for_the_last_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = dataclasses.replace(run("vlga", 9, 0.5), points=((4.0, math.nan), (8.0, 0.5)))
    (axes,) = drawn([*SMALL, late], tmp_path, monkeypatch)["best_so_far"].axes
    values = np.asarray(curves(axes)[0].get_ydata(), float)
    assert np.isnan(values[:-1]).all()
    assert values[-1] == 0.625


def test_best_so_far_points_after_the_budget_are_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(SMALL, tmp_path, monkeypatch, budget=7.0)["best_so_far"]
    assert "not drawn: what 5 of 5 runs reached after the budget" in words(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == ["aging 0.2500", "vlga 0.3750"]
    figure = drawn(SMALL, tmp_path, monkeypatch, budget=3.0, unit="seconds")["best_so_far"]
    assert "after the budget" not in words(figure)


def test_best_so_far_without_a_fitness_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = dataclasses.replace(run("vlga", 9, 0.5), points=((4.0, math.nan), (8.0, math.nan)))
    figure = drawn([*SMALL, failed], tmp_path, monkeypatch)["best_so_far"]
    assert "not drawn, since a seed has no fitness within the budget: vlga" in words(figure)
    assert len(curves(figure.axes[0])) == 1
    figure = drawn([failed], tmp_path, monkeypatch)["best_so_far"]
    assert "no strategy has a fitness" in [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(("num_strategies", "num_bands"), [(1, 1), (3, 3), (4, 2), (9, 2)])
def test_best_so_far_many_strategies_have_few_bands(
    num_strategies: int, num_bands: int, make_records: MakeRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_records(num_strategies, 5)
    figure = drawn(records, tmp_path, monkeypatch, budget=240.0)["best_so_far"]
    assert len(figure.axes[0].collections) == num_bands
    assert f"n = 5 seeds{' each' if num_strategies > 1 else ''}" in words(figure)
    assert ("the reference" in words(figure)) == (num_strategies > 1)


def test_best_so_far_each_has_every_strategys_median_and_band(
    make_records: MakeRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = drawn(make_records(5, 5), tmp_path, monkeypatch, budget=240.0)
    (together,), panels = figures["best_so_far"].axes, figures["best_so_far_each"].axes
    labels = [text.get_text().rsplit(" ", 1) for text in together.texts]  # from below, as the panels are not
    named = [(axes.texts[0].get_text(), axes.texts[1].get_text().split()[0]) for axes in panels]
    assert named == [(name, value) for name, value in reversed(labels)]
    medians = {str(line.get_color()): np.asarray(line.get_ydata()) for line in curves(together)}
    for (name, _), axes in zip(named, panels, strict=True):
        *behind, own = sorted(curves(axes), key=lambda line: line.get_linewidth())
        np.testing.assert_array_equal(own.get_ydata(), medians[str(own.get_color())])
        assert [str(line.get_color()) for line in behind] == ([] if name == "vlga" else ["black"])
        assert all(np.array_equal(line.get_ydata(), medians["black"], equal_nan=True) for line in behind)
        assert len(axes.collections) == 1  # its band
        assert (axes.get_xlim(), axes.get_ylim()) == (panels[0].get_xlim(), panels[0].get_ylim())
