"""The two figures say what the history says, in equal bytes."""

import dataclasses
import math
import random
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.run.report.drawing import assert_words_apart, instead_of_files
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.report.figures import write_figures

NAMES = ["average_fitness.svg", "average_fitness.png", "best_fitness.svg", "best_fitness.png"]


def row(phase: int, generation: int, individual: int, fitness: float, status: str = "ok") -> HistoryRow:
    return HistoryRow(phase, generation, individual, "initial", None, None, [{}], 0.001, "abc", 3, fitness, status)


def history(num_phases: int, num_generations: int, population_size: int = 10) -> list[HistoryRow]:
    draw = random.Random(0)
    return [
        row(phase, generation, individual, draw.uniform(0.2, 0.9))
        for phase in range(num_phases)
        for generation in range(num_generations)
        for individual in range(population_size)
    ]


SMALL = [
    row(0, 0, 0, 0.25),
    row(0, 0, 1, 0.75),
    row(0, 1, 0, 0.5),
    row(0, 1, 1, 0.0, "diverged"),
    row(1, 0, 0, 0.0, "diverged"),
    row(1, 0, 1, 0.0, "diverged"),
    row(1, 1, 0, 0.875),
    row(1, 1, 1, 0.625),
]


def drawn(rows: list[HistoryRow], directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures themselves, by name."""
    kept = instead_of_files(monkeypatch)
    write_figures(rows, directory)
    return kept


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("average_fitness", [[0.5, 0.5], [math.nan, 0.75]]),
        ("best_fitness", [[0.75, 0.5], [math.nan, 0.875]]),
    ],
)
def test_write_figures_two_phases_draw_a_line_each_without_the_failed(
    name: str, values: list[list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (axes,) = drawn(SMALL, tmp_path, monkeypatch)[name].axes
    *lines, ring = [
        (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in axes.lines
    ]
    np.testing.assert_equal(lines, [([1, 2], values[0]), ([3, 4], values[1])])
    dots = [tuple(point) for cloud in axes.collections for point in np.asarray(cloud.get_offsets()).tolist()]
    assert sorted(dots) == [(1, 0.25), (1, 0.75), (2, 0.5), (4, 0.625), (4, 0.875)]
    assert ring[1] == [np.nanmax(values)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "1", "2"]
    assert [text.get_text() for text in axes.texts] == ["phase 1", "phase 2"]


def test_write_figures_words_name_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = drawn(SMALL, tmp_path, monkeypatch)
    assert [text.get_text() for text in kept["average_fitness"].texts] == [
        "Average fitness of each generation",
        "line: average of each generation; dots: its individuals, n = 2",
        "ring: the highest, 0.7500 in phase 2, generation 2",
        "left out: 3 of 8 individuals without a fitness",
    ]
    (axes,) = kept["average_fitness"].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("generation of the phase", "fitness (validation accuracy)")
    kept = drawn([*SMALL, row(1, 1, 4, 0.9, "stopped")], tmp_path, monkeypatch)
    assert kept["best_fitness"].texts[-1].get_text() == "left out: 1 of 9 individuals that stopped early"
    assert kept["best_fitness"].texts[-3].get_text().startswith("ring: the highest, 0.8750"), "what stopped is not best"
    kept = drawn([*history(2, 2, 4), row(1, 1, 4, 0.5)], tmp_path, monkeypatch)
    words = " ".join(text.get_text() for text in kept["best_fitness"].texts)
    assert "n = 4 to 5" in words
    assert "left out" not in words


@pytest.mark.parametrize(("num_phases", "num_generations"), [(1, 1), (1, 3), (5, 3), (7, 1), (14, 1), (14, 5), (25, 5)])
@pytest.mark.parametrize("spread", [1.0, 0.0])
def test_write_figures_any_size_no_words_leave_the_page_or_overlap(
    num_phases: int, num_generations: int, spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        dataclasses.replace(row, fitness=1 - spread * row.fitness, status="ok" if row.individual else "diverged")
        for row in history(num_phases, num_generations, 3)
    ]
    figure = drawn(rows, tmp_path, monkeypatch)["average_fitness"]
    assert assert_words_apart(figure) > num_phases + 5


def test_write_figures_all_failed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = drawn([row(0, 0, place, 0.0, "diverged") for place in range(3)], tmp_path, monkeypatch)
    (axes,) = kept["best_fitness"].axes
    assert "no individual has a fitness" in [text.get_text() for text in axes.texts]
    assert "left out: 3 of 3" in kept["best_fitness"].texts[-1].get_text()


def test_write_figures_no_rows_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows is empty"):
        write_figures([], tmp_path)


PROGRAM = """
import sys
from pathlib import Path
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.report.figures import write_figures
early = [name for name in sys.modules if name.startswith("matplotlib")]
rows = [HistoryRow(p, g, i, "initial", None, None, [{}], 0.001, "abc", 3, 0.3 + 0.1 * i + 0.05 * g, "ok")
        for p in range(2) for g in range(3) for i in range(4)]
write_figures(rows, Path(sys.argv[1]))
print(early, [name for name in ("matplotlib.pyplot", "tkinter") if name in sys.modules])
"""


def test_write_figures_another_process_and_settings_give_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"  # matplotlib is imported late, and without pyplot
    rows = [
        row(phase, generation, individual, 0.3 + 0.1 * individual + 0.05 * generation)
        for phase in range(2)
        for generation in range(3)
        for individual in range(4)
    ]
    random.Random(1).shuffle(rows)
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 10, "axes.facecolor": "red", "figure.dpi": 10}):
        before = dict(matplotlib.rcParams)
        written = write_figures(rows, tmp_path / "here")
        assert dict(matplotlib.rcParams) == before
    assert written == [tmp_path / "here" / name for name in NAMES]
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == sorted(NAMES)  # and no leftovers
    for name in NAMES:
        content = (tmp_path / "here" / name).read_bytes()
        assert content == (tmp_path / "there" / name).read_bytes(), name
        assert len(content) > 5_000
    assert b"<dc:date>" not in (tmp_path / "here" / NAMES[0]).read_bytes()
