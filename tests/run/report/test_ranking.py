"""Tables of a ranking, with numbers that can be worked out by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vlga_jax.checks import InputError
from vlga_jax.run.report.ranking import RankedNetwork, agreement, write_ranking


def group(phase: int, fitness: list[float], whole: list[float], final: list[float]) -> list[RankedNetwork]:
    """Operations fall with the place, all have equally many parameters; a second final training gives the same."""
    return [
        RankedNetwork(0, phase, f"{phase}{place}", 100 - place, 7, fitness[place], whole[place], *[final[place]] * 2)
        for place in range(len(final))
    ]


GROUPS = [
    *group(0, [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.5, 0.6, 0.7, 0.8]),
    *group(1, [0.2, 0.3, 0.1, 0.4], [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.9]),
]


def test_agreement_by_hand() -> None:
    reached = np.array([0.5, 0.6, 0.7, 0.8])
    assert agreement(np.array([1.0, 2.0, 3.0, 4.0]), reached) == pytest.approx((1, 0.15, 0))
    assert agreement(np.array([4.0, 3.0, 2.0, 1.0]), reached) == pytest.approx((-1, -0.15, 0.3))
    # One of six pairs is the wrong way round, and the second is put first.
    assert agreement(np.array([1.0, 4.0, 2.0, 3.0]), reached) == pytest.approx((2 / 6, -0.05, 0.2))


def test_agreement_equal_predictions_say_nothing() -> None:
    assert agreement(np.full(4, 7.0), np.array([0.5, 0.6, 0.7, 0.8])) == pytest.approx((0, 0, 0.15))


def test_write_ranking_averages_over_groups(tmp_path: Path) -> None:
    write_ranking(GROUPS, tmp_path)
    text = (tmp_path / "ranking.md").read_text()
    assert "8 networks in 2 groups, each a phase of a search with 4 of them." in text
    rows = {
        cells[1].strip(): cells[2:-1] for cells in (line.split("|") for line in text.splitlines()) if len(cells) > 4
    }
    means = {name: [float(cell.split()[0]) for cell in cells] for name, cells in rows.items() if name[0] in "fopa"}
    assert means["fitness in the search"] == pytest.approx([(1 + 2 / 6) / 2, (0.15 + 0.225) / 2, 0], abs=5e-5)
    assert means["fitness, trained whole"] == pytest.approx([0, (-0.15 + 0.225) / 2, 0.15], abs=5e-5)
    assert means["operations, more first"] == pytest.approx([-1, (-0.15 - 0.175) / 2, 0.35], abs=5e-5)
    assert means["parameters, more first"] == pytest.approx([0, 0, (0.15 + 0.225) / 2], abs=6e-5)
    assert means["another final training"] == pytest.approx([1, (0.15 + 0.225) / 2, 0], abs=5e-5)
    assert "lie 0.3500 apart" in text and "Not ranked" not in text


def test_write_ranking_order_makes_no_difference(tmp_path: Path) -> None:
    paths = write_ranking(GROUPS, tmp_path / "one")
    write_ranking(GROUPS[::-1], tmp_path / "two")
    assert {path.name for path in paths} == {"ranking.md", "ranking.csv", "ranking.svg", "ranking.png"}
    for path in paths:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_write_ranking_leaves_out_groups_of_two_but_lists_them(tmp_path: Path) -> None:
    two = [dataclasses.replace(each, phase=2) for each in GROUPS[:2]]
    write_ranking([*GROUPS, *two], tmp_path, num_failed=5)
    text = (tmp_path / "ranking.md").read_text()
    assert "8 networks in 2 groups" in text
    assert "Not ranked: 2 networks of phases with fewer than 3, and 5 without a fitness or a final accuracy." in text
    assert len((tmp_path / "ranking.csv").read_text().splitlines()) == 1 + 10
    with pytest.raises(InputError, match="no phase has 3 networks whose final training succeeded"):
        write_ranking(two, tmp_path)
    assert len((tmp_path / "ranking.csv").read_text().splitlines()) == 1 + 2


def test_write_ranking_of_one_group_tells_of_no_interval(tmp_path: Path) -> None:
    write_ranking(GROUPS[:4], tmp_path)
    text = (tmp_path / "ranking.md").read_text()
    assert "| fitness in the search | +1.0000 | +0.1500 | +0.0000 |" in text
    assert "nan" not in text and "Brackets" not in text and "[" not in text
