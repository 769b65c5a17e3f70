"""A ranking of a tiny search on the digits, to the end."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from experiments import default, digits
from vlga_jax import ranking as program
from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.run import ranking
from vlga_jax.run.history import read_csv
from vlga_jax.run.ranking import parse_ranking, rank


def tiny() -> ConfigDict:
    config = ConfigDict()
    config.ranking = ConfigDict({"num_seeds": 1, "first_seed": 3})
    config.base = base = digits.get_config()
    del base.seed
    base.tracking.progress = "none"
    base.space.channels, base.space.kernels, base.space.include_skip = (4, 8), (1, 3), (False,)
    base.search.population_size, base.search.num_generations, base.search.num_phases = 3, 1, 2
    base.data.num_train_examples = 100
    base.fitness.epochs, base.final.epochs = 2, 2
    base.final.init, base.final.use_all_data = "scratch", False
    return config


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts the final trainings that are begun; the one with the number `interrupted` is not."""
    counts, train = {"begun": 0, "interrupted": 0}, ranking.train_to_convergence

    def counting(*arguments: Any, **named: Any) -> Any:
        counts["begun"] += 1
        if counts["begun"] == counts["interrupted"]:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(ranking, "train_to_convergence", counting)
    return counts


def test_rank_trains_every_network_whole_and_to_its_end_once(tmp_path: Path, trainings: dict[str, int]) -> None:
    parsed = parse_ranking(tiny().to_dict())
    networks = rank(parsed, tmp_path / "one")
    rows = read_csv(tmp_path / "one" / "runs" / "seed-3" / "history.csv")
    assert [(each.network, each.phase, each.fitness) for each in networks] == list(
        dict.fromkeys((row.network, row.phase, row.fitness) for row in rows)
    )
    assert trainings["begun"] == 2 * len(networks) >= 12
    assert {each.seed for each in networks} == {3}
    for each in networks:
        assert each.num_flops > 0 and each.num_parameters > 0
        assert 20 * each.final_accuracy == pytest.approx(round(20 * each.final_accuracy))  # of 20 images
        if each.phase == 0:
            assert each.whole_fitness == each.fitness
    assert any(each.whole_fitness != each.fitness for each in networks)
    text = (tmp_path / "one" / "ranking.md").read_text()
    assert f"{len(networks)} networks in 2 groups" in text
    assert not (tmp_path / "one" / "runs" / "seed-3" / "final").exists()
    assert any(each.second_accuracy != each.final_accuracy for each in networks)

    trainings.update(begun=0, interrupted=4)
    with pytest.raises(KeyboardInterrupt):
        rank(parsed, tmp_path / "two")
    assert not (tmp_path / "two" / "ranking.md").exists()
    assert rank(parsed, tmp_path / "two") == networks
    assert trainings["begun"] == 4 + 2 * len(networks) - 3
    for name in ("ranking.md", "ranking.csv", "figures/ranking.svg"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_rank_leaves_out_networks_whose_final_training_fails_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trainings: dict[str, int]
) -> None:
    train = ranking.train_to_convergence

    def diverge(*arguments: Any, **named: Any) -> Any:
        if trainings["begun"] == 2:  # the second network
            trainings["begun"] += 1
            raise InputError("config.final.learning_rate", 9.0, "final training failed (diverged); give a smaller one")
        return train(*arguments, **named)

    monkeypatch.setattr(ranking, "train_to_convergence", diverge)
    parsed = parse_ranking(tiny().to_dict())
    some = rank(parsed, tmp_path)
    told = next(line for line in capsys.readouterr().out.splitlines() if "not ranked" in line)
    named = "not ranked: config.base.final.learning_rate=9.0: final training failed (diverged); give a smaller one"
    assert "network 2/" in told and told.endswith(named)
    assert "and 1 without a fitness" in (tmp_path / "ranking.md").read_text()
    monkeypatch.setattr(ranking, "train_to_convergence", train)
    trainings["begun"] = 0
    every = rank(parsed, tmp_path)
    assert trainings["begun"] == 2
    assert [each for place, each in enumerate(every) if place != 1] == some


def test_rank_leaves_out_a_network_that_fails_where_it_is_trained_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = Evaluator.evaluate

    def one_fails(self: Evaluator, requests: Any, **named: Any) -> Any:
        for evaluation, known in evaluate(self, requests, **named):
            failed = named["keep_from"] == float("inf") and evaluation.digest == requests[-1].digest
            yield (dataclasses.replace(evaluation, status="diverged", fitness=0.0) if failed else evaluation), known

    monkeypatch.setattr(Evaluator, "evaluate", one_fails)
    networks = rank(parse_ranking(tiny().to_dict()), tmp_path)
    assert capsys.readouterr().out.endswith("not ranked: trained whole for a fitness it fails\n")
    assert "and 1 without a fitness" in (tmp_path / "ranking.md").read_text()
    assert all(each.whole_fitness > 0 for each in networks)


def test_rank_tells_of_what_makes_a_search_poor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny()
    config.base.fitness.max_parameters = 10
    with pytest.raises(InputError, match="no network could be trained"):
        rank(parse_ranking(config.to_dict()), tmp_path)
    few, steps, limits = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"only 20 images validate.* larger config\.base\.data\.validation_fraction", few)
    assert steps.startswith(
        "few training steps: config.base.fitness.epochs=2 is only 6, config.base.final.epochs=2 is only 6"
    )
    assert re.search(r"fitness\.max_parameters=10; raise them, or narrow the choices of config\.base\.space", limits)


def test_rank_of_data_that_is_not_there_names_the_field(tmp_path: Path) -> None:
    config = tiny()
    config.base.data.name, config.base.data.dir = "npz", str(tmp_path / "missing")
    with pytest.raises(InputError, match=r"^config\.base\.data\.dir=.*missing"):
        rank(parse_ranking(config.to_dict()), tmp_path / "ranked")


def test_rank_of_phases_of_two_networks_says_so_before_final_trainings(
    tmp_path: Path, trainings: dict[str, int]
) -> None:
    config = tiny()
    config.base.search.num_phases = 1
    space = config.base.space
    space.channels, space.kernels, space.activations = (4,), (1,), ("relu",)
    space.batch_norm, space.include_pool, space.pool_types = (True,), (False, True), ("max",)
    told = r"^config\.base\.search\.population_size=3: no phase of the search of seed 3 has 3 networks with a fitness"
    with pytest.raises(InputError, match=told):
        rank(parse_ranking(config.to_dict()), tmp_path)
    assert trainings["begun"] == 0


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("base.final.use_all_data", True, "config.base.final.use_all_data=True: must be False in a ranking"),
        ("base.final.init", "searched", "config.base.final.init='searched': must be 'scratch' in a ranking"),
        ("base.final.widen_to_flops", 9, "config.base.final.widen_to_flops=9: must be 0 in a ranking"),
        ("base.stopping.rungs", (1,), "config.base.stopping.rungs=(1,): must be () in a ranking"),
        ("base.search.fine_tuning_rate", 0.5, "config.base.search.fine_tuning_rate=0.5: must be 0.0 in a ranking"),
        ("ranking.num_seeds", 0, "config.ranking.num_seeds=0: must be at least 1"),
        (
            "ranking.num_seeds",
            2**32 + 1,
            "config.ranking.num_seeds=4294967297: from first_seed=3 on there are",
        ),
        ("base.search.population_size", 2, "config.base.search.population_size=2: a phase needs 3 networks"),
        ("ranking.first_seed", 2**32, "config.ranking.first_seed=4294967296: must be at least 0 and at most"),
        ("base.fitness.epochs", 0, "config.base.fitness.epochs=0: must be at least 1"),
    ],
)
def test_parse_ranking_bad_value_names_field_and_remedy(field: str, value: Any, told: str) -> None:
    config = tiny()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError) as error:
        parse_ranking(config.to_dict())
    assert told in str(error.value)


def test_parse_ranking_of_another_strategy_names_it() -> None:
    config = tiny()
    config.base.search = default.random_search()
    with pytest.raises(InputError, match="config.base.search.strategy='random_search': must be 'vlga'"):
        parse_ranking(config.to_dict())


@pytest.mark.parametrize("group", ["ranking", "base"])
def test_parse_ranking_without_a_group_says_where_one_is_shown(group: str) -> None:
    values = tiny().to_dict()
    del values[group]
    with pytest.raises(InputError, match="experiments/ranking_cifar10.py shows a ranking"):
        parse_ranking(values)


def test_program_of_an_experiment_exits_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(digits.__file__)
    assert program.main(["ranking", f"--config={file}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
