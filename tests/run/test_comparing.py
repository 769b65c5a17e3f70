"""A comparison of two strategies on the digits, at tiny size, to the end."""

import dataclasses
import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ml_collections import ConfigDict

from benchmarks import against_optuna
from experiments import compare_digits, default, digits, ranking_cifar10
from vlga_jax import compare as program
from vlga_jax.checks import InputError
from vlga_jax.run.comparing import compare, parse_comparison, record_from_json

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def tiny() -> ConfigDict:
    config = ConfigDict()
    config.compare = default.compare()
    config.compare.num_seeds = 2
    config.compare.budget_epochs = 6
    config.compare.reference = "random_search"
    config.compare.crossovers = ("vlga",)
    config.base = compare_digits.base(digits.get_config())
    config.base.space.channels, config.base.space.kernels = (8,), (1, 3)
    config.base.data.num_train_examples = 100
    config.base.fitness.epochs, config.base.final.epochs = 2, 1
    every = compare_digits.strategies(population_size=2, num_generations=2)
    config.strategies = ConfigDict({name: every[name] for name in ("random_search", "vlga", "vlga_rungs")})
    config.strategies.random_search.search.max_convolutions = 3
    config.strategies.vlga_rungs.stopping.rungs = (1,)
    return config


def tree(directory: Path) -> dict[str, bytes]:
    """What a comparison leaves that must be the same bytes every time."""
    names = ("comparison.csv", "comparison.md", "history.csv", "result.json")
    seconds = ("comparison.csv", "comparison.md")
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.name in names and path.name not in seconds
    }


def without_seconds(record: Any) -> Any:
    return dataclasses.replace(record, seconds=0.0, times=())


def test_compare_gives_every_strategy_the_same_budget_is_read_when_repeated_and_goes_on_where_it_was_interrupted(
    tmp_path: Path, interruption: Any
) -> None:
    config = tiny()
    config.compare.num_seeds = 1
    comparison = parse_comparison(config.to_dict())
    records = compare(comparison, tmp_path / "one")
    assert [(record.strategy, record.seed) for record in records] == [
        (name, 0) for name in ("random_search", "vlga", "vlga_rungs")
    ]
    assert {record.epochs for record in records} == {6}
    assert all(0 <= record.test_accuracy <= 1 for record in records)
    for record in records:
        assert record.best_fitness == max(fitness for _, fitness in record.points)
    assert {record.epochs_saved > 0 for record in records if record.strategy == "vlga_rungs"} == {True}
    assert {record.epochs_saved for record in records if record.strategy != "vlga_rungs"} == {0}
    for name in ("comparison.csv", "comparison.md", "figures/best_so_far.svg", "figures/generations_best.png"):
        assert (tmp_path / "one" / name).is_file()
    written = (tmp_path / "one" / "comparison.csv").read_bytes()
    assert compare(comparison, tmp_path / "one") == records
    assert (tmp_path / "one" / "comparison.csv").read_bytes() == written

    interruption.at, interruption.count = interruption.count - 1, 0
    with pytest.raises(KeyboardInterrupt):
        compare(comparison, tmp_path / "two")
    assert not (tmp_path / "two" / "comparison.md").exists()
    again = compare(comparison, tmp_path / "two")
    assert list(map(without_seconds, again)) == list(map(without_seconds, records))
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


def test_compare_with_more_seeds_adds_to_what_is_there(tmp_path: Path) -> None:
    config = tiny()
    config.strategies = ConfigDict({"random_search": config.strategies.random_search})
    config.compare.crossovers = ()
    config.compare.num_seeds = 1
    (first,) = compare(parse_comparison(config.to_dict()), tmp_path)
    config.compare.num_seeds = 2
    same, second = compare(parse_comparison(config.to_dict()), tmp_path)
    assert same == first and second.seed == 1
    config.base.fitness.epochs = 1
    with pytest.raises(InputError, match=r"base\.fitness\.epochs was 2, is 1"):
        compare(parse_comparison(config.to_dict()), tmp_path)


def test_compare_of_a_longer_search_or_another_winner_takes_no_record_of_the_one_before(tmp_path: Path) -> None:
    config = tiny()
    config.strategies = ConfigDict({"vlga": config.strategies.vlga})
    config.compare.reference, config.compare.num_seeds, config.compare.budget_epochs = "vlga", 1, 1000
    config.strategies.vlga.search.num_phases = 1
    (short,) = compare(parse_comparison(config.to_dict()), tmp_path)
    config.strategies.vlga.search.num_phases = 2
    (long,) = compare(parse_comparison(config.to_dict()), tmp_path)
    assert {phase for phase, *_ in short.generations} == {0} and {phase for phase, *_ in long.generations} == {0, 1}
    config.strategies.vlga.search.winner = "last_phase"
    record = tmp_path / "runs" / "vlga-0" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "test_accuracy": -1.0}))
    (other,) = compare(parse_comparison(config.to_dict()), tmp_path)
    assert other.test_accuracy >= 0


@pytest.mark.parametrize("reference_too", [False, True])
def test_compare_of_a_run_that_comes_to_no_result_names_it_and_keeps_the_others(
    reference_too: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny()
    config.compare.num_seeds, config.compare.crossovers = 1, ("vlga",)
    del config.strategies.vlga_rungs
    for name in ["vlga", *(["random_search"] if reference_too else [])]:
        config.strategies[name].final = ConfigDict({"learning_rate": 1e30})
    named = r"config\.strategies\.vlga\.final\.learning_rate=1e\+30"
    failed = rf"vlga seed 0: {named}: final training failed .*; give a smaller one"
    told = "2 of 2 .* no table is written" if reference_too else r"1 of 2 .* comparison\.md is of the others"
    for name in ("comparison.csv", "comparison.md"):
        (tmp_path / name).write_text("of fewer runs, before")
    (tmp_path / "figures").mkdir()
    with pytest.raises(InputError, match=f"{told}.*{failed}"):
        compare(parse_comparison(config.to_dict()), tmp_path)
    assert "vlga seed 0: config.strategies.vlga.final.learning_rate" in capsys.readouterr().out
    written = [(tmp_path / name).exists() for name in ("comparison.csv", "comparison.md")]
    assert written == [not reference_too] * 2 and (tmp_path / "figures").exists() == (not reference_too)
    if not reference_too:
        table = (tmp_path / "comparison.md").read_text()
        assert (
            "**random_search** (reference)" in table and "Not in this table, nor in its adjustment of p: vlga" in table
        )
        left_out = "- vlga seed 0: config.strategies.vlga.final.learning_rate=1e+30: final"
        assert f"no result and count nowhere above:\n\n{left_out}" in table


def test_compare_tells_what_makes_searches_poor_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny()
    config.compare.num_seeds, config.compare.crossovers = 1, ()
    config.base.fitness.max_parameters = 130  # enough for first blocks of few channels, not for 20 convolutions
    config.base.space.channels = (1, 8)
    config.strategies.random_search.search.min_convolutions = 20
    config.strategies.random_search.search.max_convolutions = 20
    del config.strategies.vlga_rungs
    with pytest.raises(InputError, match=r"random_search seed 0: .*no network could be trained"):
        compare(parse_comparison(config.to_dict()), tmp_path)
    few, steps, limits, *runs = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"only 20 images validate.* larger config\.base\.data\.validation_fraction", few)
    assert re.fullmatch(
        r"random_search: only 0% of the networks .* fitness\.max_parameters=130; "
        r"raise them, or narrow the choices of config\.base\.space, with another --workdir",
        limits,
    )
    told = "few training steps: config.base.fitness.epochs=2 is only 6, config.base.final.epochs=1 is only 3; if"
    assert steps.startswith(f"random_search, vlga: {told}")
    assert [line.split(":")[0] for line in runs] == [f"{name} seed 0" for name in config.strategies]


@pytest.mark.parametrize(("any_environment", "again"), [(False, True), (True, False)])
def test_compare_takes_a_record_of_another_environment_only_if_told_to(
    any_environment: bool, again: bool, tmp_path: Path
) -> None:
    config = tiny()
    config.strategies = ConfigDict({"vlga": config.strategies.vlga})
    config.compare.reference, config.compare.num_seeds, config.compare.crossovers = "vlga", 1, ()
    config.base.fitness.any_environment = any_environment
    compare(parse_comparison(config.to_dict()), tmp_path)
    record = tmp_path / "runs" / "vlga-0" / "record.json"
    changed = {**json.loads(record.read_text()), "environment": "another", "test_accuracy": -1.0}
    record.write_text(json.dumps(changed))
    (found,) = compare(parse_comparison(config.to_dict()), tmp_path)
    assert (found.test_accuracy >= 0) == again


def test_record_from_json_of_a_record_restores_it(tmp_path: Path) -> None:
    config = tiny()
    config.compare.num_seeds, config.compare.crossovers = 1, ()
    config.strategies = ConfigDict({"random_search": config.strategies.random_search})
    (record,) = compare(parse_comparison(config.to_dict()), tmp_path)
    assert record_from_json(json.loads(json.dumps(dataclasses.asdict(record)))) == record


@pytest.mark.parametrize("name", sorted(path.stem for path in EXPERIMENTS.glob("compare_*.py")))
def test_parse_comparison_of_every_experiment_accepts_it(name: str) -> None:
    experiment = importlib.import_module(f"experiments.{name}")
    comparison = parse_comparison(experiment.get_config().to_dict())
    assert comparison.compare.reference in comparison.strategies
    assert experiment.__doc__ is not None and against_optuna.__doc__ is not None
    assert f"--config=experiments/{name}.py" in experiment.__doc__ or f"experiments/{name}.py" in against_optuna.__doc__


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("compare.reference", "nobody", r"config\.compare\.reference='nobody': must be one of random_search, vlga"),
        ("compare.only", ("random_search", "nobody"), r"config\.compare\.only='nobody': must be one of random_search,"),
        ("compare.only", ("vlga",), r"config\.compare\.only=\('vlga',\): must hold random_search, which .*reference"),
        ("compare.budget_epochs", 0, r"config\.compare\.budget_epochs=0: give either"),
        ("compare.num_seeds", 0, r"config\.compare\.num_seeds=0"),
        ("compare.first_seed", 2**32 - 1, r"config\.compare\.num_seeds=2: from first_seed=4294967295 on there are 1;"),
        ("compare.budget_epochs", 1, r"config\.compare\.budget_epochs=1: must be at least 2"),
        ("strategies.vlga.search.num_elites", -1, r"config\.strategies\.vlga\.search\.num_elites=-1"),
        ("strategies.vlga.final", {"epochs": 0}, r"config\.strategies\.vlga\.final\.epochs=0"),
        ("base.fitness.epochs", 0, r"config\.base\.fitness\.epochs=0"),
        ("base.typo", {}, r"config\.base\.typo=\{\}: unknown field"),
    ],
)
def test_parse_comparison_of_bad_input_names_it(field: str, value: Any, message: str) -> None:
    config = tiny()
    *groups, last = field.split(".")
    inner = config
    for group in groups:
        inner = inner[group]
    inner[last] = value
    with pytest.raises(InputError, match=message):
        parse_comparison(config.to_dict())


def test_compare_of_data_that_is_not_there_names_the_field(tmp_path: Path) -> None:
    config = tiny()
    config.base.data.name, config.base.data.dir = "npz", str(tmp_path / "missing")
    with pytest.raises(InputError, match=r"^config\.base\.data\.dir=.*missing"):
        compare(parse_comparison(config.to_dict()), tmp_path / "compared")


@pytest.mark.parametrize(
    ("other", "remedy"),
    [(digits, "`python main.py` with an experiment"), (ranking_cifar10, "`python -m vlga_jax.ranking` with a ranking")],
)
def test_parse_comparison_of_another_program_names_it(other: ModuleType, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"config\.compare.*is missing; run {remedy}; "):
        parse_comparison(other.get_config().to_dict())


@pytest.mark.parametrize(
    ("only", "names", "crossovers"),
    [
        ((), ["random_search", "vlga", "vlga_rungs"], ("vlga",)),
        (("vlga", "random_search"), ["random_search", "vlga"], ("vlga",)),
        (("vlga_rungs,random_search",), ["random_search", "vlga_rungs"], ()),  # as the command line gives it
    ],
)
def test_parse_comparison_of_some_strategies_only(
    only: tuple[str, ...], names: list[str], crossovers: tuple[str, ...]
) -> None:
    config = tiny()
    config.compare.only = only
    comparison = parse_comparison(config.to_dict())
    assert list(comparison.strategies) == names and comparison.compare.crossovers == crossovers
    assert {*names, *comparison.left_out} == {"random_search", "vlga", "vlga_rungs"}


@pytest.mark.parametrize(
    ("argument", "whole"),
    [
        ("--only=vlga,aging", "--config.compare.only=vlga,aging"),
        ("--seeds=3", "--config.compare.num_seeds=3"),
        ("--first_seed", "--config.compare.first_seed"),
        ("--workdir=only", "--workdir=only"),
    ],
)
def test_short_flags_stand_for_fields(argument: str, whole: str) -> None:
    assert program._unaliased(argument) == whole


def test_compare_of_strategies_on_other_data_is_refused(tmp_path: Path) -> None:
    config = tiny()
    config.strategies.vlga.data = {"num_train_examples": 90}
    with pytest.raises(
        InputError, match=r"^config\.strategies\.vlga\.data\.num_train_examples=90: must be 100, as for the others"
    ):
        compare(parse_comparison(config.to_dict()), tmp_path)


@pytest.mark.parametrize("field", ["max_parameters", "max_block_flops", "num_train_examples"])
def test_compare_of_strategies_with_other_limits_or_another_part_is_refused(tmp_path: Path, field: str) -> None:
    config = tiny()
    config.strategies = ConfigDict({"vlga": config.strategies.vlga, "vlga_small": config.strategies.vlga_rungs})
    config.strategies.vlga_small.fitness = {field: 50}
    config.compare.reference, config.compare.num_seeds = "vlga", 1
    with pytest.raises(InputError, match=rf"^config\.strategies\.vlga_small\.fitness\.{field}=50: must be 0"):
        compare(parse_comparison(config.to_dict()), tmp_path)
