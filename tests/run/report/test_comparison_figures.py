"""The comparison's figures show what the records say, keep their words apart, and are equal bytes for equal records."""

import dataclasses
import math
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.run.report.drawing import SMALL, MakeRecords, assert_words_apart, curves, drawn, run, words
from vlga_jax.checks import InputError
from vlga_jax.run.report.comparison_figures import write_comparison_figures

NAMES = ("best_so_far", "test_accuracy", "generations_average", "generations_best")
CROSSOVERS = ("vlga", "vlga_uniform_parents")


def test_test_accuracy_rows_are_ordered_and_show_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(SMALL, tmp_path, monkeypatch)["test_accuracy"]
    (axes,) = figure.axes
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == ["vlga (n = 3)", "aging (n = 2)"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal"]
    dots = [np.asarray(cloud.get_offsets()) for cloud in axes.collections]
    assert [row[:, 0].tolist() for row in dots] == [[0.5, 0.75, 1.0], [0.25, 0.5]]
    for place, row in enumerate(dots):
        assert len(set(row[:, 1])) == len(row)  # equal accuracies do not hide each other
        assert np.all(np.abs(row[:, 1] - place) < 0.5)
    assert [text.get_text().split()[0] for text in axes.texts] == ["0.7500", "0.3750"]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first row stands at the top
    assert "n = 2 to 3 seeds" in words(figure)


def test_test_accuracy_of_a_strategy_far_below_leaves_the_axis_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = [run(name, seed, 0.5, 0.9 + 0.02 * seed) for name in ("vlga", "aging") for seed in range(2)]
    far = [run("large_scale", seed, 0.5, 0.2 + 0.2 * seed) for seed in range(2)]
    figure = drawn([*near, *far], tmp_path, monkeypatch)["test_accuracy"]
    left, right = figure.axes[0].get_xlim()
    assert left == 0.9 and 0.92 < right < 0.93
    assert "arrow: more of large_scale lies left of the axis" in words(figure)
    assert any(text.get_text().startswith("0.3000") for text in figure.axes[0].texts)
    one_is_high = [run("large_scale", seed, 0.5, accuracy) for seed, accuracy in enumerate((0.89, 0.89, 0.99))]
    alike = [dataclasses.replace(record, test_accuracy=0.98 + 0.0005 * place) for place, record in enumerate(near)]
    for some in (
        [*near, run("large_scale", 0, 0.5, 0.885)],  # not further below than the others span
        [*near[:2], *far],  # nobody to leave the axis to
        [*near, *one_is_high],
        [*alike, run("large_scale", 0, 0.5, 0.975)],  # less than what is called a difference
    ):
        figure = drawn(some, tmp_path, monkeypatch)["test_accuracy"]
        lowest = min(record.test_accuracy for record in some)
        assert "arrow" not in words(figure) and figure.axes[0].get_xlim()[0] < lowest


@pytest.mark.parametrize(("name", "values"), [("average", [0.125, 0.375]), ("best", [0.25, 0.75])])
def test_generations_line_is_the_median_of_each_generation(
    name: str, values: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(SMALL, tmp_path, monkeypatch, crossovers=("vlga",))[f"generations_{name}"]
    (axes,) = figure.axes
    line, filled, hollow = curves(axes)
    assert (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) == ([1.0, 2.0], values)
    assert np.asarray(filled.get_ydata()).tolist() == values
    assert not len(np.asarray(hollow.get_ydata()))
    assert [text.get_text() for text in axes.texts] == ["phase 1", "phase 2", f"vlga {values[-1]:.4f}"]
    assert "hollow" not in words(figure)


def test_generations_seeds_that_ended_leave_hollow_marks_then_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (2, 3, 4, 5)
    records = [
        dataclasses.replace(
            run("vlga", seed, 0.5), generations=tuple((*divmod(i, 2), 0.1 * i, 0.2 * i) for i in range(length))
        )
        for seed, length in enumerate(lengths)
    ]
    figure = drawn(records, tmp_path, monkeypatch, crossovers=("vlga",))["generations_average"]
    line, filled, hollow = curves(figure.axes[0])
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), [0.0, 0.1, 0.2, 0.3, math.nan])
    assert np.asarray(filled.get_xdata()).tolist() == [1.0, 2.0]
    np.testing.assert_allclose(np.asarray(hollow.get_ydata(), float), [0.2, 0.3, math.nan])
    assert "hollow: of fewer seeds" in words(figure)
    assert figure.axes[0].texts[-1].get_text() == "vlga 0.1000"  # the last of all four
    records.append(dataclasses.replace(records[0], seed=9, generations=()))
    figure = drawn(records, tmp_path, monkeypatch, crossovers=("vlga",))["generations_average"]
    assert figure.axes[0].texts[-1].get_text() == "vlga"


def test_generations_many_of_them_have_spaced_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = tuple((*divmod(i, 3), 0.001 * i, 0.002 * i) for i in range(80))
    record = dataclasses.replace(run("vlga", 0, 0.5), generations=generations)
    figure = drawn([record], tmp_path, monkeypatch, crossovers=("vlga",))["generations_best"]
    line, filled, hollow = curves(figure.axes[0])
    assert len(np.asarray(line.get_xdata())) == 80
    assert np.asarray(filled.get_xdata()).tolist() == [float(place) for place in range(1, 81, 3)]
    assert not len(np.asarray(hollow.get_xdata()))


@pytest.mark.parametrize("crossovers", [("aging", "classical"), ("classical",)])
def test_write_comparison_figures_unknown_crossovers_raise(crossovers: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="crossovers='classical'.* use some of vlga, aging"):
        write_comparison_figures(SMALL, tmp_path, budget=8.0, unit="epochs", crossovers=crossovers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("num_strategies", "num_seeds", "spread"),
    [
        *((1, 1, 1.0), (1, 1, 0.0), (2, 1, 1.0), (3, 2, 1.0), (3, 2, 0.0)),
        *((5, 1, 1.0), (5, 1, 0.0), (9, 3, 1.0), (12, 3, 1.0), (12, 3, 0.0)),
    ],
)
def test_write_comparison_figures_any_size_no_words_leave_the_page_or_overlap(
    num_strategies: int,
    num_seeds: int,
    spread: float,
    make_records: MakeRecords,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [
        record
        if spread
        else dataclasses.replace(record, test_accuracy=1.0, points=tuple((epochs, 1.0) for epochs, _ in record.points))
        for record in make_records(num_strategies, num_seeds)
    ]
    shown = CROSSOVERS[:num_strategies]
    figures = drawn(records, tmp_path, monkeypatch, budget=240.0, crossovers=shown)
    assert set(figures) == {*NAMES, *(["best_so_far_each"] if num_strategies > 3 else [])}
    for name, figure in figures.items():
        least = 6 + (len(shown) if name.startswith("generations") else num_strategies)
        assert assert_words_apart(figure) > least, name


PROGRAM = """
import pickle, sys
from pathlib import Path
from vlga_jax.run.report.comparison_figures import write_comparison_figures
records = pickle.load(sys.stdin.buffer)
early = [name for name in sys.modules if name.startswith("matplotlib")]
write_comparison_figures(records, Path(sys.argv[1]), budget=8.0, unit="epochs", crossovers=("vlga", "aging"))
print(early, [name for name in ("matplotlib.pyplot", "tkinter") if name in sys.modules])
"""


def test_write_comparison_figures_another_process_and_order_give_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        run(strategy, seed, 0.8 + 0.01 * seed, 0.9) for strategy in ("vlga", "aging", "classical") for seed in range(3)
    ]
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "there")]
    done = subprocess.run(command, input=pickle.dumps(records), stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"[] []\n"  # matplotlib is imported late, and without pyplot
    random.Random(1).shuffle(records)
    write_comparison_figures(records, tmp_path / "here", budget=8.0, unit="epochs", crossovers=("vlga", "aging"))
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(f"{name}.{form}" for name in NAMES for form in ("png", "svg"))
    for name in names:
        content = (tmp_path / "here" / name).read_bytes()
        assert content == (tmp_path / "there" / name).read_bytes(), name
        assert len(content) > 5_000


def test_write_comparison_figures_of_fewer_strategies_leaves_none_of_more(
    make_records: MakeRecords, tmp_path: Path
) -> None:
    about: dict[str, Any] = {"budget": 240.0, "unit": "epochs"}
    write_comparison_figures(make_records(4, 2), tmp_path, **about, crossovers=CROSSOVERS)
    assert len(list(tmp_path.iterdir())) == 10
    written = write_comparison_figures(make_records(2, 2), tmp_path, **about)
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_write_comparison_figures_without_crossovers_writes_two(make_records: MakeRecords, tmp_path: Path) -> None:
    records = make_records(2, 2)
    random.Random(2).shuffle(records)
    written = write_comparison_figures(records, tmp_path / "figures", budget=240.0, unit="epochs")
    assert [path.name for path in written] == [f"{name}.{form}" for name in NAMES[:2] for form in ("svg", "png")]
    assert all(path.exists() for path in written)
