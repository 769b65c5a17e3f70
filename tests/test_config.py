"""From the command line to values: every experiment, every override the README promises, every way to write a flag."""

import ast
import errno
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments import default
from vlga_jax.checks import InputError
from vlga_jax.config import help_text, read_command_line, run_program
from vlga_jax.run.laboratory import RunConfig, parse_config

ROOT = Path(__file__).resolve().parents[1]
# Comparisons and rankings have tests of their own.
OTHERS = {path.stem for start in ("compare", "ranking") for path in (ROOT / "experiments").glob(f"{start}_*.py")}
EXPERIMENTS = sorted({path.stem for path in (ROOT / "experiments").glob("*.py")} - OTHERS - {"__init__"})
DEFAULT = ROOT / "experiments" / "default.py"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def field(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = getattr(record, name)
    return record


def config_of(*arguments: str) -> RunConfig:
    return parse_config(read_command_line(["main.py", *arguments], DEFAULT).values)


def experiment_values(name: str) -> dict[str, Any]:
    return flat(importlib.import_module(f"experiments.{name}").get_config().to_dict())


def standard_of(name: str) -> dict[str, Any]:
    """The default experiment's values with the default knobs of an experiment's strategy."""
    standard = default.get_config()
    own = importlib.import_module(f"experiments.{name}").get_config().search
    standard.search = getattr(default, own.strategy, lambda: own)()  # a strategy's knobs may stand in its experiment
    return flat(standard.to_dict())


def assigned_fields(name: str) -> Iterator[str]:
    """Yields the fields that an experiment's source assigns, as in search.num_phases."""
    for node in ast.walk(ast.parse((ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            yield ast.unparse(node.targets[0]).removeprefix("config.")


def test_experiments_that_the_project_promises_are_there() -> None:
    promised = {"default", "digits", "cifar10", "cifar10_paper", "cifar10_report", "cifar10_report_baseline"}
    assert promised <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_parses_and_has_exactly_the_fields_of_default(name: str) -> None:
    path = ROOT / "experiments" / f"{name}.py"
    config = config_of(f"--config={path}")
    values, standard = experiment_values(name), standard_of(name)
    assert set(values) == set(standard)
    assert {field: type(value) for field, value in values.items()} == {
        field: type(value) for field, value in standard.items()
    }
    assert all(field(config, path) == value for path, value in values.items())


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "default"])
def test_experiment_states_differences_only(name: str) -> None:
    values, starts_from = experiment_values(name), standard_of(name)
    if hasattr(importlib.import_module(f"experiments.{name}"), "cifar10"):  # which others are made from
        starts_from |= {path: value for path, value in experiment_values("cifar10").items() if path in starts_from}
    assigned = [path for path in assigned_fields(name) if path in values]  # `search` is a group
    assert [path for path in assigned if values[path] == starts_from[path]] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_opens_with_its_command(name: str) -> None:
    text = importlib.import_module(f"experiments.{name}").__doc__ or ""
    assert name == "default" or f"python main.py --config=experiments/{name}.py --workdir=" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cifar10_paper",
            {
                "search.population_size": 20,
                "search.num_generations": 5,
                "search.num_elites": 0,
                "search.survival_rate": 0.5,
                "search.unfit_survival_prob": 0.2,
                "search.mutation_rate": 0.2,
                "search.crossover": "uniform",
                "search.parent_selection": "uniform",
                "search.stop_rule": True,
                "search.stop_drop": 0.01,
                "space.activations": ("relu", "tanh", "elu", "selu"),
                "space.pool_stride": 2,
                "space.head_pool": "max",
                "fitness.epochs": 5,
            },
        ),
        (
            "cifar10_report",
            {
                "search.population_size": 10,
                "search.num_generations": 3,
                "search.num_phases": 5,
                "search.num_elites": 0,
                "search.mutation_rate": 0.1,
                "search.crossover": "single_point",
                "search.parent_selection": "softmax",
                "search.parent_temperature": 1.0,
                "search.stop_rule": False,
                "space.activations": ("relu", "elu", "leaky_relu"),
                "space.pool_stride": 1,
                "fitness.epochs": 3,
                "fitness.batch_size": 256,
                "fitness.optimizer": "adam",
                "fitness.learning_rate": 1e-3,
            },
        ),
    ],
)
def test_experiment_of_a_source_has_the_settings_of_protocol_md(name: str, expected: dict[str, Any]) -> None:
    values = experiment_values(name)
    assert {path: values[path] for path in expected} == expected
    assert values["data.name"] == "cifar10"


def test_report_baseline_differs_from_the_report_in_the_parents_alone() -> None:
    report, baseline = experiment_values("cifar10_report"), experiment_values("cifar10_report_baseline")
    assert {path for path in report if report[path] != baseline[path]} == {"search.parent_selection"}
    assert baseline["search.parent_selection"] == "uniform"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=7", 7),
        ("search.population_size=20", 20),
        ("search.num_generations=4", 4),
        ("search.num_phases=2", 2),
        ("search.num_elites=0", 0),
        ("search.survival_rate=0.25", 0.25),
        ("search.survival_rate=1", 1.0),
        ("search.unfit_survival_prob=0", 0.0),
        ("search.mutation_rate=2e-1", 0.2),
        ("search.parent_temperature=1", 1.0),
        ("search.stop_rule=true", True),
        ("space.channels=8,16", (8, 16)),
        ("space.channels=8", (8,)),
        ("space.channels=(8,16)", (8, 16)),
        ("space.channels=[8, 16]", (8, 16)),
        ("space.kernels=1,3", (1, 3)),
        ("space.activations=relu,tanh", ("relu", "tanh")),
        ("space.activations=relu", ("relu",)),
        ("space.activations=('relu','elu')", ("relu", "elu")),
        ("space.batch_norm=true,false", (True, False)),
        ("space.batch_norm=False", (False,)),
        ("space.dropout_rates=0,0.5", (0.0, 0.5)),
        ("space.strides=1,2,4", (1, 2, 4)),
        ("space.strides=2", (2,)),
        ("space.first_block_has_b=false", False),
        ("space.pool_stride=1", 1),
        ("fitness.epochs=1", 1),
        ("fitness.batch_size=64", 64),
        ("fitness.learning_rate=0.01", 0.01),
        ("fitness.ledger=runs/a b/ledger.sqlite", "runs/a b/ledger.sqlite"),
        ("final.epochs=5", 5),
        ("final.use_all_data=True", True),
        ("data.name=digits", "digits"),
        ("data.dir=~/sets", "~/sets"),
        ("data.num_train_examples=2000", 2000),
        ("tracking.wandb=offline", "offline"),
    ],
)
def test_override_of_a_field_sets_it_and_nothing_else(override: str, expected: Any) -> None:
    path = override.partition("=")[0]
    config = config_of(f"--config.{override}")
    changed = field(config, path)
    assert (changed, type(changed)) == (expected, type(expected))
    standard = config_of()
    others = [other for other in experiment_values("default") if other != path]
    assert all(field(config, other) == field(standard, other) for other in others)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config.seed=7", f"--config={ROOT}/experiments/digits.py"],
        [f"--config={ROOT}/experiments/digits.py", "--config.seed=7"],
        ["--config", f"{ROOT}/experiments/digits.py", "--config.seed", "7"],
        [f"-config={ROOT}/experiments/digits.py", "-config.seed=7"],
        [f"--config={ROOT}/experiments/digits.py", "--config.seed=3", "--config.seed=7"],
    ],
)
def test_read_command_line_takes_flags_in_any_order_and_form(arguments: list[str]) -> None:
    for more in (["--workdir=a/b"], ["--workdir", "a/b"]):
        for given in ([*arguments, *more], [*more, *arguments]):
            command_line = read_command_line(["main.py", *given], DEFAULT)
            assert (command_line.values["seed"], command_line.values["data"]["name"]) == (7, "digits")
            assert command_line.workdir == Path("a/b")


def test_read_command_line_of_nothing_gives_the_default_experiment_and_no_workdir() -> None:
    command_line = read_command_line(["main.py"], DEFAULT)
    assert command_line.workdir is None
    assert command_line.values == default.get_config().to_dict()


def test_read_command_line_twice_remembers_nothing_of_the_first() -> None:
    assert config_of("--config.seed=7", "--workdir=x").seed == 7
    assert config_of().seed == 0
    assert read_command_line(["main.py"], DEFAULT).workdir is None


def test_read_command_line_of_a_repeated_flag_takes_the_last_number_and_refuses_lists() -> None:
    assert config_of("--config.seed=8", "--config.seed=16").seed == 16
    with pytest.raises(InputError, match="config.space.channels='8': is given twice; give all its values once"):
        config_of("--config.space.channels=8", "--config.space.channels=16")


def test_read_command_line_of_a_switch_takes_it_with_and_without_no() -> None:
    assert config_of("--config.final.use_all_data").final.use_all_data is True
    assert config_of("--noconfig.final.flip").final.flip is False


def test_read_command_line_of_a_flagfile_reads_flags_from_it(tmp_path: Path) -> None:
    (tmp_path / "flags").write_text(f"--config={ROOT}/experiments/digits.py\n--config.seed=7\n", encoding="utf-8")
    config = config_of(f"--flagfile={tmp_path}/flags")
    assert (config.seed, config.data.name) == (7, "digits")


def test_read_command_line_of_a_misspelt_field_suggests_the_right_one() -> None:
    with pytest.raises(InputError, match=r"did you mean config\.search\.population_size\?$"):
        read_command_line(["main.py", "--config.search.populationsize=4"], DEFAULT)


def test_help_text_names_both_flags_and_the_default_experiment() -> None:
    text = help_text(DEFAULT)
    assert "--config:" in text and "--workdir:" in text and "experiments/default.py" in "".join(text.split())


def test_run_program_on_a_full_disk_is_one_line_that_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def on_a_full_disk(error: OSError) -> int:
        def run(workdir: Path) -> None:
            raise RuntimeError("a checkpoint was not written") from error

        return run_program(["main.py", f"--workdir={tmp_path}"], None, DEFAULT, lambda values: run)

    assert on_a_full_disk(OSError(errno.ENOSPC, "No space left on device")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: workdir='{tmp_path}': no space is left") and f"--workdir={tmp_path}: it" in line
    with pytest.raises(RuntimeError, match="not written"):
        on_a_full_disk(OSError(errno.EACCES, "Permission denied"))
