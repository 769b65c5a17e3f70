"""Every strategy on the digits, to the end, at tiny size."""

import json
import math
import pkgutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import default, digits
from vlga_jax import evolution
from vlga_jax.checks import InputError
from vlga_jax.genome.space import make_search_space
from vlga_jax.run.history import read_csv
from vlga_jax.run.laboratory import NO_STRATEGIES, RunConfig, parse_config
from vlga_jax.run.pipeline import run
from vlga_jax.run.report.figures import write_figures

SMALL: dict[str, dict[str, Any]] = {
    "vlga": {
        "population_size": 2,
        "num_generations": 1,
        "num_phases": 2,
        "fine_tuning_rate": 0.5,
        "winner": "best_phase",
    },
    "random_search": {"population_size": 2, "num_generations": 2, "max_convolutions": 3},
    "classical": {"num_convolutions": 3, "population_size": 3, "num_generations": 2},
    "aging": {"num_convolutions": 2, "population_size": 2, "sample_size": 2, "num_children": 1, "num_cycles": 2},
    "hill_climbing": {"num_convolutions": 2, "num_neighbours": 2, "num_steps": 1},
    "large_scale": {"population_size": 4, "num_children": 2, "num_cycles": 6, "max_convolutions": 2},
    "ant_colony": {"num_ants": 2, "max_depth": 2, "num_iterations": 3},
}


OUTCOME = ("history.csv", "result.json")


def small(strategy: str, *, file: str = "", **stopping: Any) -> RunConfig:
    """A tiny search of one strategy, whose file may have another name."""
    config = digits.get_config()
    config.search = getattr(default, strategy)()
    config.search.update({**SMALL[strategy], "strategy": file or strategy})
    if strategy == "large_scale":
        config.space.strides, config.space.first_block_has_b = (1, 2), False
    config.space.channels, config.space.kernels = (8,), (1, 3)
    config.data.num_train_examples = 100
    config.fitness.epochs, config.final.epochs = 2, 1
    config.stopping.update(stopping)
    config.tracking.progress = "none"
    return parse_config(config.to_dict())


def test_every_strategy_is_run_here() -> None:
    files = {module.name for module in pkgutil.iter_modules(evolution.__path__)}
    assert set(SMALL) == files - set(NO_STRATEGIES)


@pytest.mark.parametrize("strategy", SMALL)
def test_run_of_every_strategy_ends_and_is_read_when_repeated(
    strategy: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checked, draws = small(strategy), strategy in ("vlga", "large_scale")  # in phases, and without
    if draws:
        request.getfixturevalue("drawn")
    result = run(checked, tmp_path)
    assert 0 <= result["test_accuracy"] <= 1
    if draws:
        assert len(list((tmp_path / "figures").iterdir())) == 4
    assert result["best_fitness"] == result["architecture"]["fitness"]
    history = (tmp_path / "history.csv").read_bytes()
    assert history.count(b",fine_tuned,") == (2 if strategy == "vlga" else 0)
    again = run(checked, tmp_path)
    assert json.dumps(again, sort_keys=True) == json.dumps(result, sort_keys=True)


@pytest.mark.parametrize(
    ("strategy", "stopping"),
    [
        *((strategy, {"rungs": (1,)}) for strategy in SMALL),
        *((strategy, {"reference_quantile": 1.0}) for strategy in ("classical", "large_scale")),
    ],
)
def test_run_of_every_strategy_with_early_stopping_goes_on_after_an_interruption_to_the_same_bytes(
    strategy: str, stopping: dict[str, Any], tmp_path: Path, interruption: Any
) -> None:
    checked = small(strategy, **stopping)
    run(checked, tmp_path / "undisturbed")
    assert b",stopped\n" in (tmp_path / "undisturbed" / "history.csv").read_bytes()
    assert len(write_figures(read_csv(tmp_path / "undisturbed" / "history.csv"), tmp_path / "figures")) == 4
    interruption.at, interruption.count = interruption.count - 1, 0
    with pytest.raises(KeyboardInterrupt):
        run(checked, tmp_path / "interrupted")
    run(checked, tmp_path / "interrupted")
    for name in OUTCOME:
        assert (tmp_path / "interrupted" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_a_strategy_takes_one_file_and_one_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CONTRIBUTING.md says; the file is one of ours under another name."""
    source = (Path(evolution.__file__).parent / "hill_climbing.py").read_text()
    (tmp_path / "eighth.py").write_text(source.replace('"hill_climbing"', '"eighth"'))
    monkeypatch.setattr(evolution, "__path__", [*evolution.__path__, str(tmp_path)])
    result = run(small("hill_climbing", file="eighth"), tmp_path / "eighth")
    theirs = run(small("hill_climbing"), tmp_path / "hill_climbing")
    assert result["test_accuracy"] == theirs["test_accuracy"]
    monkeypatch.delitem(sys.modules, f"{evolution.__name__}.eighth")


def test_run_of_rejected_networks_only_within_a_budget_ends(tmp_path: Path) -> None:
    config = digits.get_config()
    config.search = default.random_search()
    config.search.population_size, config.search.num_generations = 1, 10**9
    config.fitness.max_parameters, config.budget.epochs = 1, 8
    config.data.num_train_examples, config.tracking.progress = 100, "none"
    with pytest.raises(InputError, match=r"no network could be trained: .*max_parameters=1"):
        run(parse_config(config.to_dict()), tmp_path)


@pytest.mark.parametrize("strategy", ["", "selection", "anneal"])
def test_strategy_that_is_none_is_an_input_error(strategy: str) -> None:
    config = digits.get_config()
    config.search.strategy = strategy
    with pytest.raises(InputError, match=r"config\.search\.strategy=.*must be one of aging, .*, hill_climbing"):
        parse_config(config.to_dict())


def test_ant_colony_of_ants_that_all_stopped_early_lays_no_pheromone() -> None:
    config = digits.get_config()
    config.search = default.ant_colony()
    checked = parse_config(config.to_dict())
    strategy, key = checked.search.make(make_search_space(checked.space)), jax.random.key(0)
    state = strategy.init(key)
    after = strategy.tell(key, state, [-1.8] * config.search.num_ants)
    assert after.best.fitness == -1.8
    assert (np.stack([state.pheromone, after.pheromone]) > 0).all()


@pytest.mark.parametrize("winner", ["last_phase", "best_phase"])
def test_vlga_of_a_phase_that_the_budget_did_not_reach_takes_the_winner_of_the_one_before(winner: str) -> None:
    config = digits.get_config()
    config.search.winner = winner
    checked = parse_config(config.to_dict())
    strategy, key = checked.search.make(make_search_space(checked.space)), jax.random.key(0)
    state = strategy.init(key)
    while state.phase == 0:
        state = strategy.tell(key, state, [0.5] * config.search.population_size)
    state = strategy.tell(key, state, [math.nan] * config.search.population_size)
    assert strategy.winner(state).place.phase == 0


@pytest.mark.parametrize("strategy", ["classical", "aging", "hill_climbing"])
def test_parse_config_of_a_space_without_the_wanted_number_of_convolutions_names_its_gene(strategy: str) -> None:
    config = digits.get_config()
    config.search = getattr(default, strategy)()
    config.search.num_convolutions, config.space.include_b = 3, (True,)
    with pytest.raises(InputError, match=r"config\.space\.include_b=\(True,\): must hold false for networks of 3"):
        parse_config(config.to_dict())


@pytest.mark.parametrize(
    ("group", "changes", "message"),
    [
        ("stopping", {"rungs": (9,)}, r"config\.stopping\.rungs=\(9,\): must all be below fitness\.epochs=4"),
        ("stopping", {"rungs": (2, 1)}, r"config\.stopping\.rungs=\(2, 1\): must ascend"),
        ("budget", {"epochs": 3}, r"config\.budget\.epochs=3: must be at least 4"),
        ("search", default.large_scale().to_dict(), r"config\.space\.first_block_has_b=True: must be false"),
    ],
)
def test_parse_config_of_fields_that_do_not_go_together_names_one(group: str, changes: object, message: str) -> None:
    values = digits.get_config().to_dict()
    values[group] = changes if group == "search" else {**values[group], **changes}  # type: ignore[dict-item]
    with pytest.raises(InputError, match=message):
        parse_config(values)
