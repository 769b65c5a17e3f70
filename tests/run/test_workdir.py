import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import default
from vlga_jax.checks import InputError
from vlga_jax.run import workdir

Change = Callable[[dict[str, Any]], None]


def configuration(**changes: Any) -> dict[str, Any]:
    """The defaults as JSON would give them back, with changes by name: search__num_phases=3."""
    config = json.loads(json.dumps(default.get_config().to_dict()))
    for name, value in changes.items():
        wing, _, field = name.partition("__")
        if field:
            config[wing][field] = value
        else:
            config[wing] = value
    return config


def hold(directory: Path, config: dict[str, Any]) -> None:
    with workdir.opened(directory, config):
        workdir.settle(directory, config, "fingerprint")


def test_opened_of_a_new_directory_makes_it_with_the_config(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "run"
    hold(directory, configuration())
    assert json.loads((directory / "config.json").read_text()) == configuration(data_fingerprint="fingerprint")


def test_opened_without_settling_leaves_nothing_that_binds_the_directory(tmp_path: Path) -> None:
    with workdir.opened(tmp_path, configuration(seed=1)):
        pass
    hold(tmp_path, configuration(seed=2))
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 2


def test_settle_on_other_data_is_refused(tmp_path: Path) -> None:
    hold(tmp_path, configuration())
    with (
        workdir.opened(tmp_path, configuration()),
        pytest.raises(InputError, match="its images or their classes were others"),
    ):
        workdir.settle(tmp_path, configuration(), "another")


def test_opened_again_with_the_same_config_leaves_the_same_bytes(tmp_path: Path) -> None:
    hold(tmp_path, configuration())
    before = (tmp_path / "config.json").read_bytes()
    hold(tmp_path, copy.deepcopy(configuration()))
    hold(tmp_path, configuration(space__channels=tuple(configuration()["space"]["channels"])))
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"search__num_phases": 6},
        {"search__num_generations": 4},
        {"search__num_phases": 9, "search__num_generations": 9},
        {"final__epochs": 1, "final__init": "scratch", "search__winner": "best_phase"},
        {"tracking__wandb": "offline", "tracking__progress": "none"},
        {"data__dir": "/elsewhere", "data__cache_dir": "/cache"},
        {"fitness__ledger": "/other/ledger.sqlite", "fitness__any_environment": True, "fitness__compile_threads": 3},
    ],
)
def test_opened_with_a_change_that_no_evaluation_depends_on_is_accepted(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    hold(tmp_path, configuration())
    hold(tmp_path, configuration(**changes))
    assert json.loads((tmp_path / "config.json").read_text()) == configuration(
        **changes, data_fingerprint="fingerprint"
    )


@pytest.mark.parametrize(
    ("group", "field", "off"),
    [
        *(("space", "min_side", 1), ("space", "whitening", False)),
        *(("fitness", "max_block_flops", 0), ("fitness", "num_train_examples", 0)),
    ],
)
def test_opened_of_a_version_without_a_later_field_is_the_same_search_where_that_is_off(
    tmp_path: Path, group: str, field: str, off: int
) -> None:
    for name, prefix, config in (
        ("run", "", configuration()),
        ("comparison", "base.", {"base": configuration(), "budget": [60, "epochs"]}),
    ):
        old: Any = json.loads(json.dumps(config))
        assert old.get("base", old)[group].pop(field) == off
        hold(tmp_path / name, old)
        hold(tmp_path / name, config)
        changed: Any = json.loads(json.dumps(config))
        changed.get("base", changed)[group][field] = 8
        hold(tmp_path / f"{name} again", old)
        with pytest.raises(InputError, match=rf"{prefix}{group}\.{field} was {json.dumps(off)}, is 8"):
            hold(tmp_path / f"{name} again", changed)


def test_opened_of_a_version_without_later_knobs_is_the_same_search_where_that_is_off(tmp_path: Path) -> None:
    old = configuration()
    for name in ("fine_tuning_rate", "winner_tolerance", "child_mutation_rate"):
        del old["search"][name]
    hold(tmp_path, old)
    assert workdir.holds(tmp_path, configuration()) and not workdir.holds(tmp_path, configuration(seed=1))
    hold(tmp_path, configuration())
    hold(tmp_path / "other", old)
    with pytest.raises(InputError, match=r"search\.fine_tuning_rate was 0\.0, is 0\.3"):
        hold(tmp_path / "other", configuration(search__fine_tuning_rate=0.3))
    with pytest.raises(InputError, match=r"search\.child_mutation_rate was 0\.0, is 0\.3"):
        hold(tmp_path / "other", configuration(search__child_mutation_rate=0.3))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 7}, ["seed was 0, is 7"]),
        ({"search__num_phases": 4}, ["search.num_phases was 5, is 4"]),
        ({"search__num_generations": 2}, ["search.num_generations was 3, is 2"]),
        (
            {"search__population_size": 20, "space__kernels": [1, 3], "fitness__learning_rate": 0.1},
            [
                "fitness.learning_rate was 0.001, is 0.1",
                "search.population_size was 10, is 20",
                "space.kernels was [1, 3, 5, 7, 9], is [1, 3]",
            ],
        ),
        ({"fitness__max_seconds": 1.0}, ["fitness.max_seconds was 0.0, is 1.0"]),
        ({"data__name": "digits"}, ['data.name was "cifar10", is "digits"']),
        ({"data__num_train_examples": 100}, ["data.num_train_examples was 0, is 100"]),
        ({"data__split_seed": 1, "final__epochs": 1}, ["data.split_seed was 0, is 1"]),
        ({"search__renamed": 1}, ["search.renamed was null, is 1"]),
    ],
)
def test_opened_with_another_search_is_refused_with_all_that_differs(
    tmp_path: Path, changes: dict[str, Any], told: list[str]
) -> None:
    hold(tmp_path, configuration())
    (tmp_path / "ledger.sqlite").touch()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError) as caught:
        hold(tmp_path, configuration(**changes))
    message = str(caught.value)
    assert f"({'; '.join(told)})" in message
    assert "use the old values or another --workdir" in message and "\n" not in message
    only_search = all(name.startswith("search__") for name in changes)
    assert (f"--config.fitness.ledger={tmp_path / 'ledger.sqlite'} spares" in message) == only_search
    assert (tmp_path / "config.json").read_bytes() == before


def test_opened_with_every_field_of_a_search_changed_names_each(tmp_path: Path) -> None:
    """A field that someone adds is refused unless someone has thought about it."""
    hold(tmp_path, configuration())
    changed = configuration()
    for wing in ("search", "space", "fitness", "data"):
        for name in changed[wing]:
            changed[wing][name] = "changed"
    with pytest.raises(InputError) as caught:
        hold(tmp_path, changed)
    named = {part.split(" was ")[0].split("(")[-1] for part in str(caught.value).split("; ")}
    free = {"data.dir", "data.cache_dir", "search.winner", "search.winner_tolerance"}
    free |= {"fitness.ledger", "fitness.any_environment", "fitness.compile_threads"}
    fields = {f"{wing}.{name}" for wing in ("search", "space", "fitness", "data") for name in changed[wing]}
    assert {name for name in named if "." in name and " " not in name} == fields - free


_HOLDER = """
import sys
from pathlib import Path
from vlga_jax.run import workdir
with workdir.opened(Path(sys.argv[1]), {}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_opened_while_another_process_holds_it_is_refused_and_after_its_kill_works(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is in use by another run; wait or give another"):
            hold(tmp_path, {})
    finally:
        holder.kill()
        holder.communicate()
    hold(tmp_path, {})


def test_opened_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    with workdir.opened(tmp_path, {}), pytest.raises(InputError, match="is in use"):
        hold(tmp_path, {})


@pytest.mark.parametrize("text", ["", "{", "no JSON", "[1, 2]", "null"])
def test_opened_with_a_config_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="give another --workdir") as caught:
        hold(tmp_path, configuration())
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_opened_where_no_directory_can_be_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written") as caught:
        hold(tmp_path / path, {})
    assert caught.value.field == "workdir"


def test_holds_of_a_version_without_a_later_field_of_the_final_training(tmp_path: Path) -> None:
    old: Any = configuration()
    del old["final"]["clip_norm"]
    hold(tmp_path, old)
    assert workdir.holds(tmp_path, configuration())
    assert not workdir.holds(tmp_path, configuration(final__clip_norm=1.0))


def test_told_leaves_out_later_fields_where_they_are_off() -> None:
    plain, told = configuration(), workdir.told(configuration())
    assert "space.whitening" not in told and "final.clip_norm" not in told
    assert told["space.pool_stride"] == plain["space"]["pool_stride"]
    changed = workdir.told(configuration(space__whitening=True))
    assert {name for name in changed if changed[name] != told.get(name)} == {"space.whitening"}
