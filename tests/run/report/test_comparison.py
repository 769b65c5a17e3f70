"""The tables say what the records say, state what is missing, and are equal bytes for equal records."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlga_jax.run.report.comparison import write_tables
from vlga_jax.run.report.records import RunRecord


def run(strategy: str, seed: int, test_accuracy: float, best_fitness: float = 0.5) -> RunRecord:
    return RunRecord(strategy, seed, best_fitness, test_accuracy, 1000, 40, 1.5, 8, ((4.0, 0.5),), (0.25,), ())


SMALL = [
    run("vlga", 0, 0.5),
    run("vlga", 1, 0.75),
    run("aging", 0, 0.75),
    run("aging", 1, 0.75, 0.25),
    run("random_search", 1, 0.1),
]


def markdown(records: list[RunRecord], directory: Path, reference: str = "vlga", unit: str = "epochs") -> str:
    write_tables(records, directory, budget=40.0, unit=unit, reference=reference)  # type: ignore[arg-type]
    return (directory / "comparison.md").read_text()


def test_write_tables_worked_example_gives_these_rows(tmp_path: Path) -> None:
    lines = markdown(SMALL, tmp_path).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("|")))
    assert lines[start : start + 5] == [
        "| strategy | n | test accuracy | a repeat's | best fitness | difference to vlga | adjusted p "
        "| and in fitness | epochs | epochs saved | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| aging | 2 | 0.7500 [0.7500, 0.7500] | 0.7500 to 0.7500 | 0.3750 [0.2500, 0.5000] "
        "| +0.1250 [+0.0000, +0.2500] | 1.000 | -0.1250 [-0.2500, +0.0000] | 40 | 8 | 1.5 |",
        "| **vlga** (reference) | 2 | 0.6250 [0.5000, 0.7500] | 0.0000 to 1.0000 | 0.5000 [0.5000, 0.5000] "
        "|  |  |  | 40 | 8 | 1.5 |",
        "| random_search | 1 | 0.1000 |  | 0.5000 | -0.6500 | 1.000 | +0.0000 | 40 | 8 | 1.5 |",
    ]


def test_write_tables_missing_runs_are_stated(tmp_path: Path) -> None:
    assert "**Runs are missing.** Of the 2 seeds, 0, 1, random_search lacks 0." in markdown(SMALL, tmp_path)
    records = [run("vlga", seed, 0.5) for seed in (0, 1, 2, 3, 7)] + [run("aging", seed, 0.25) for seed in (3, 7, 8)]
    text = markdown(records, tmp_path)
    assert "Of the 6 seeds, 0 to 3, 7, 8, vlga lacks 8; aging lacks 0 to 2." in text
    assert "| -0.2500 [-0.2500, -0.2500], n = 2 | 0.500 |" in text
    text = markdown([run(name, seed, 0.5) for name in ("vlga", "aging") for seed in (4, 5)], tmp_path)
    assert "Seeds, the same for every strategy: 4, 5." in text


def test_write_tables_p_values_are_adjusted_over_all_comparisons(tmp_path: Path) -> None:
    seeds = range(12)
    records = [
        *(run("vlga", seed, 0.5) for seed in seeds),
        *(run("aging", seed, 0.51 + 0.001 * seed) for seed in seeds),  # 2 of 4096 signs: 0.00049, twice it 0.00098
        *(run("classical", seed, 0.5) for seed in seeds),
    ]
    text = markdown(records, tmp_path)
    (aging,) = [line for line in text.splitlines() if line.startswith("| aging")]
    (classical,) = [line for line in text.splitlines() if line.startswith("| classical")]
    assert "| < 0.001 |" in aging
    assert "| +0.0000 [+0.0000, +0.0000] | 1.000 |" in classical
    assert "adjusted for 2 comparisons (Holm 1979)" in text
    assert "can come out" not in text


def test_write_tables_too_few_seeds_says_what_they_cannot_show(tmp_path: Path) -> None:
    text = markdown(SMALL, tmp_path)
    assert "With 2 pairs and 2 comparisons no p below 1.000 can come out" in text
    assert "Two seeds have a plain percentile interval, one seed has none." in text
    assert "fewer than ten seeds" in text
    records = [run(name, seed, 0.5) for name in ("vlga", "aging") for seed in range(5)]
    text = markdown(records, tmp_path)
    assert "With 5 pairs and 1 comparison no p below 0.062 can come out" in text
    assert "percentile" not in text


def test_write_tables_no_common_seed_or_other_strategy_compares_nothing(tmp_path: Path) -> None:
    text = markdown([run("vlga", 0, 0.5)], tmp_path)
    assert "Nothing is compared with vlga" in text
    text = markdown([run("vlga", 0, 0.5), run("aging", 1, 0.5)], tmp_path)
    assert "| aging | 1 | 0.5000 |  | 0.5000 | no common seed |  |  |" in text
    assert "Nothing is compared with vlga" in text


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("epochs", "40 trained epochs"),
        ("seconds", "40 seconds of compiling and training"),
        ("process_seconds", "40 seconds from the start of its process"),
    ],
)
def test_write_tables_names_the_budget(unit: str, words: str, tmp_path: Path) -> None:
    assert f"Each run could spend {words}." in markdown(SMALL, tmp_path, unit=unit)


def test_write_tables_names_the_strategies_that_are_left_out(make_records: Any, tmp_path: Path) -> None:
    about: dict[str, Any] = {"budget": 1.0, "unit": "epochs"}
    whole, part = tmp_path / "whole", tmp_path / "part"
    write_tables(make_records(2, 2), whole, **about)
    write_tables(make_records(2, 2), part, **about, left_out=("classical", "ant_colony"))
    more = "\nNot in this table, nor in its adjustment of p: classical, ant_colony.\n"
    assert (part / "comparison.md").read_text() == (whole / "comparison.md").read_text() + more


def test_write_tables_csv_has_every_run_to_the_last_bit(tmp_path: Path) -> None:
    records = [run("vlga", 3, 0.1 + 0.2), run("vlga", 2, 1.0), run("aging", 0, 0.75)]
    write_tables(records, tmp_path, budget=40.0, unit="epochs")
    assert (tmp_path / "comparison.csv").read_text().splitlines() == [
        "strategy,seed,best_fitness,test_accuracy,num_parameters,epochs,seconds,epochs_saved",
        "aging,0,0.5,0.75,1000,40,1.5,8",
        "vlga,2,0.5,1.0,1000,40,1.5,8",
        "vlga,3,0.5,0.30000000000000004,1000,40,1.5,8",
    ]


def test_write_tables_any_order_gives_equal_bytes(make_records: Callable[..., list[RunRecord]], tmp_path: Path) -> None:
    records = make_records(4, 6)
    written = write_tables(records, tmp_path / "here", budget=240.0, unit="epochs")
    assert written == [tmp_path / "here" / "comparison.csv", tmp_path / "here" / "comparison.md"]
    random.Random(1).shuffle(records)
    write_tables(records, tmp_path / "there", budget=240.0, unit="epochs")
    for path in written:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()
    assert sorted((tmp_path / "here").iterdir()) == written  # and no leftovers
