"""Searches whose networks see whitened patches: evaluated, inherited, resumed, trained on, exported and loaded."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlga_jax
from experiments import default
from vlga_jax.network.whitening import patch_statistics
from vlga_jax.run import pipeline
from vlga_jax.run.history import read_csv
from vlga_jax.training.data import load_test_data, load_training_data

WHITENING = "batch_stats/whitening"
WHITE = {"space.whitening": True, "search.num_generations": 1}


@pytest.fixture(scope="module")
def white(make_config: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A configuration whose networks whiten images, and what its run left."""
    config, directory = make_config(WHITE), tmp_path_factory.mktemp("white")
    pipeline.run(config, directory)
    return config, directory


def statistics_in(directory: Path) -> dict[str, np.ndarray]:
    with np.load(directory / "best" / "weights.npz") as weights:
        return {name: weights[f"{WHITENING}/{name}"] for name in ("kernel", "mean")}


def test_run_with_whitening_leaves_a_network_that_predicts_as_tested(white: tuple[Any, Path]) -> None:
    config, directory = white
    images, labels = load_test_data(config.data)
    predict = vlga_jax.load(directory)
    assert predict.spec.whitening and len(predict.spec.blocks) == 2
    accuracy = (predict(images) == labels).mean()
    assert accuracy == json.loads((directory / "result.json").read_text())["test_accuracy"]
    assert accuracy > 0.2, "it learns, of ten classes"
    expected = patch_statistics(load_training_data(config.data).train_images)
    found = statistics_in(directory)
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf)


def test_run_with_whitening_scores_heirs_alike_with_features_cached_or_recomputed(
    white: tuple[Any, Path], make_config: Any, tmp_path: Path
) -> None:
    pipeline.run(make_config({**WHITE, "fitness.features": "recomputed"}), tmp_path)
    one, other = (read_csv(each / "history.csv") for each in (white[1], tmp_path))
    assert [row.chromosome for row in one] == [row.chromosome for row in other]
    np.testing.assert_allclose([row.fitness for row in one], [row.fitness for row in other], atol=1e-3)


def test_run_with_whitening_continued_without_its_weights_ends_the_same(
    white: tuple[Any, Path], outcome_of: Any, tmp_path: Path
) -> None:
    config, directory = white
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    for name in ("best", "weights"):
        shutil.rmtree(copy / name)
    (copy / "result.json").unlink()
    pipeline.run(config, copy)
    assert outcome_of(copy) == outcome_of(directory)


def test_run_with_whitening_trained_from_scratch_on_all_images_takes_all_their_statistics(
    white: tuple[Any, Path], tmp_path: Path
) -> None:
    config, directory = white
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    final = dataclasses.replace(config.final, init="scratch", use_all_data=True)
    pipeline.run(dataclasses.replace(config, final=final), copy)
    data = load_training_data(config.data)
    expected = patch_statistics(np.concatenate([data.train_images, data.validation_images]))
    np.testing.assert_array_equal(statistics_in(copy)["kernel"], expected["kernel"])
    assert (statistics_in(directory)["kernel"] != expected["kernel"]).any()


@pytest.mark.parametrize("strategy", ["large_scale", "random_search"])
def test_run_with_whitening_of_another_strategy_has_it(strategy: str, make_config: Any, tmp_path: Path) -> None:
    search = getattr(default, strategy)()
    if strategy == "large_scale":
        search.update(population_size=4, num_children=2, num_cycles=2, max_convolutions=3)
    else:
        search.update(population_size=2, num_generations=1, min_convolutions=2, max_convolutions=2)
    first_block = {"space.first_block_has_b": strategy != "large_scale"}
    pipeline.run(make_config({"space.whitening": True, **first_block, "search": search}), tmp_path)
    assert statistics_in(tmp_path)["kernel"].any()


def test_run_with_whitening_of_colour_images_and_fine_tuning_predicts_as_tested(
    make_config: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "classes.json").write_text('["dark", "bright"]')
    for split, size in (("train", 120), ("test", 40)):
        labels = np.arange(size) % 2
        images = rng.integers(0, 120, (size, 8, 8, 3)) + 60 * labels[:, None, None, None]
        np.savez(tmp_path / "images" / f"{split}-00000.npz", images=images.astype(np.uint8), labels=labels)
    data = {"data.name": "npz", "data.dir": str(tmp_path / "images"), "data.num_train_examples": 0}
    changes = {**WHITE, "search.population_size": 2, "search.fine_tuning_rate": 0.5, **data}
    config = make_config({**changes, "final.test_flip": True, "fitness.precision": "bfloat16"})
    result = pipeline.run(config, tmp_path / "run")
    images, labels = load_test_data(config.data)
    assert (vlga_jax.load(tmp_path / "run")(images) == labels).mean() == result["test_accuracy"] > 0.8
    assert statistics_in(tmp_path / "run")["kernel"].shape == (12, 12)
