"""What would make a search a poor one is told before anything is trained."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import cifar10, cifar10_cpu, cifar10_cpu_random_search, default, digits
from tests.run.searching import paper_laboratory
from vlga_jax.checks import InputError
from vlga_jax.evolution.strategy import Place, Proposal
from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.run import pipeline
from vlga_jax.run.advice import (
    advice,
    few_steps,
    few_validation_images,
    share_within_limits,
    tight_limits,
    what_to_change,
)
from vlga_jax.run.laboratory import Laboratory, parse_config


def laboratory(experiment: Any, side: int) -> Laboratory:
    return paper_laboratory(parse_config(experiment.get_config().to_dict()), (side, side, 3))


def exact_share(lab: Laboratory) -> float:
    """Of all first blocks there are."""
    choices = [range(n if free else 1) for n, free in zip(lab.space.num_choices, lab.space.free(0), strict=True)]
    rows = np.array(list(itertools.product(*choices)), np.int32)
    requests = [lab.request(Proposal(Place(0, 0, 0), Chromosome(row[None]), "initial"), None) for row in rows]
    return float(np.mean([request.rejection() is None for request in requests]))


@pytest.mark.parametrize("side", [32, 64, 128, 224])
def test_share_of_what_a_search_begins_with_is_about_that_of_all_first_blocks(side: int) -> None:
    lab = laboratory(cifar10_cpu, side)
    share = exact_share(lab)
    assert share_within_limits(lab) == pytest.approx(share, abs=4 * (share * (1 - share) / 240) ** 0.5)


@pytest.mark.parametrize(("experiment", "side"), [(cifar10_cpu, 32), (cifar10, 32), (cifar10, 64), (default, 224)])
def test_limits_that_leave_a_quarter_or_are_none_are_passed_over(experiment: Any, side: int) -> None:
    assert tight_limits(laboratory(experiment, side)) == ""


def test_limits_for_smaller_images_are_told_of_with_flags_that_are_enough() -> None:
    line = tight_limits(laboratory(cifar10_cpu, 64))
    share = re.fullmatch(
        r"only (\d+)% of the networks that a search begins with at 64x64 pixels are within "
        r"fitness.max_flops=200000000 and fitness.max_block_flops=60000000; "
        r"if they are for 32x32, as those of cifar10\*.py are, start again for the "
        r"like here, 4 times the work, with another --workdir and "
        r"--config.fitness.max_flops=800000000 --config.fitness.max_block_flops=240000000 "
        r"--config.final.widen_to_flops=800000000",
        line,
    )
    assert share and int(share[1]) < 25
    config = cifar10_cpu.get_config()
    for group, name, value in re.findall(r"--config\.(\w+)\.(\w+)=(\d+)", line):
        config[group][name] = int(value)
    assert tight_limits(paper_laboratory(parse_config(config.to_dict()), (64, 64, 3))) == ""


def test_share_is_of_whole_networks_where_a_search_begins_with_them() -> None:
    random_search, vlga = laboratory(cifar10_cpu_random_search, 48), laboratory(cifar10_cpu, 48)
    assert share_within_limits(random_search) < share_within_limits(vlga) - 0.05
    assert "48x48" in tight_limits(random_search) and not tight_limits(vlga)


@pytest.mark.parametrize(("name", "side"), [("max_block_flops", 32), ("max_parameters", 64), ("max_flops", 64)])
def test_limits_that_are_not_of_smaller_images_are_to_be_raised(name: str, side: int) -> None:
    config = default.get_config()
    config.fitness[name] = 1
    line = tight_limits(paper_laboratory(parse_config(config.to_dict()), (side, side, 3)))
    assert line == (
        f"only 0% of the networks that a search begins with at {side}x{side} pixels are within fitness.{name}=1; "
        "raise them, or narrow the choices of config.space, with another --workdir"
    )


def test_a_hundred_validation_images_are_enough() -> None:
    config = parse_config(cifar10_cpu.get_config().to_dict())
    assert few_validation_images(paper_laboratory(config, num_validation=100)) == ""
    assert few_validation_images(paper_laboratory(config, num_validation=99)) == (
        "only 99 images validate, so that fitness moves in steps of 0.010 and hardly tells networks apart; "
        "give more images, or a larger config.data.validation_fraction"
    )


@pytest.mark.parametrize(
    ("num_train", "changes", "told"),
    [
        (1200, {}, []),  # 38 steps an epoch
        (384, {}, ["fitness.epochs=4 is only 48", "final.patience=15 is only 180"]),
        (115, {}, ["fitness.epochs=4 is only 16", "final.epochs=30 is only 120", "final.patience=15 is only 60"]),
        (115, {"fitness.batch_size": 2, "final.batch_size": 2}, []),
        (1200, {"final.patience": 5}, ["final.patience=5 is only 190"]),
        (384, {"fitness.epochs": 5, "final.patience": 0}, []),
        (384, {"fitness.epochs": 5, "final.use_all_data": True, "final.epochs": 15}, ["final.epochs=15 is only 195"]),
        (608, {"stopping.rungs": (1, 2)}, ["stopping.rungs=1,2 is only 19"]),
        (640, {"stopping.rungs": (1, 2)}, []),
    ],
)
def test_trainings_of_few_steps_are_told_of(num_train: int, changes: dict[str, Any], told: list[str]) -> None:
    config = digits.get_config()
    config.update_from_flattened_dict(changes)
    line = few_steps(paper_laboratory(parse_config(config.to_dict()), num_validation=29, num_train=num_train))
    assert re.findall(r"config\.(\S+ is only \d+)", line) == told
    assert line.startswith("few training steps: ") == bool(told)


def test_advice_is_a_line_for_each_thing() -> None:
    config = parse_config(cifar10_cpu.get_config().to_dict())
    sizes = ((32, 100, 50_000), (64, 10, 90))
    lines = [advice(paper_laboratory(config, (side, side, 3), held_out, kept)) for side, held_out, kept in sizes]
    assert lines[0] == []
    assert [line.split()[2] for line in lines[1]] == ["images", "steps:", "of"]


def test_a_run_prints_it_before_it_fails(make_config: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config({"fitness.max_parameters": 10, "tracking.progress": "plain"})
    with pytest.raises(InputError, match="no network could be trained"):
        pipeline.run(config, tmp_path)
    assert "begins with at 8x8 pixels are within fitness.max_parameters=10; raise them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "field", "words"),
    [
        ("diverged", "learning_rate", "smaller"),
        ("out_of_time", "max_seconds", "more"),
        ("out_of_memory", "batch_size", "smaller"),
        ("not_compiled", "deterministic", "cuDNN"),
        ("too_many_parameters", "max_parameters", "raise it"),
        ("too_many_block_flops", "max_block_flops", "raise it"),
    ],
)
def test_what_to_change_names_a_field_for_whatever_became_of_all_networks(
    status: str, field: str, words: str, make_config: Any
) -> None:
    named, remedy = what_to_change(paper_laboratory(make_config()), status)
    assert named == field and words in remedy
    assert hasattr(make_config().fitness, field)


def test_a_run_of_nothing_but_trainings_that_diverge_blames_their_learning_rate(
    make_config: Any, tmp_path: Path
) -> None:
    changes = {"search.num_generations": 1, "search.population_size": 2}
    message = r"^config\.fitness\.learning_rate=1e\+30: no network .* give a smaller one, with another --workdir$"
    with pytest.raises(InputError, match=message):
        pipeline.run(make_config({**changes, "fitness.learning_rate": 1e30}), tmp_path)
    with pytest.raises(InputError, match="holds another search"):  # so the remedy has to say it
        pipeline.run(make_config({**changes, "fitness.learning_rate": 1e29}), tmp_path)
