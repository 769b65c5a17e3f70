"""The parts of the Optuna peer that need no PyTorch; test_optuna_peer_training.py has the rest."""

import ast
import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest

from benchmarks.peers import optuna_job
from benchmarks.peers.optuna_job import JobError, block_counts, load_images, read_job, suggest_genes
from vlga_jax.run.finish import Progress

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
SPACE = {
    "activation": ["relu", "elu"],
    "a_channels": [8, 16],
    "a_kernel": [1, 3],
    "a_batch_norm": [True, False],
    "include_pool": [True, False],
    "pool_type": ["max", "average"],
    "include_b": [True, False],
    "b_channels": [8, 16],
    "b_kernel": [1, 3],
    "b_batch_norm": [True, False],
    "include_skip": [True, False],
}
FINAL = {
    "epochs": 2,
    "patience": 1,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "flip": True,
    "crop_padding": 4,
}
JOB = {
    "space": SPACE,
    "pool_stride": 2,
    "min_side": 8,
    "min_convolutions": 2,
    "max_convolutions": 7,
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "images": "images.npz",
    "seed": 0,
    "budget_seconds": 20,
    "final": FINAL,
}


class Trial:
    """Suggests at random, and holds a caller to Optuna's rule that a name's choices never change."""

    known: dict[str, list[Any]] = {}

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        assert self.known.setdefault(name, choices) == choices
        assert name not in self.params
        self.params[name] = self.random.choice(choices)
        return self.params[name]


def job(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(JOB), **changes}


def written(directory: Path, value: Any) -> Path:
    path = directory / "job.json"
    path.write_text(json.dumps(value))
    return path


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source, feature_version=(3, 11))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or ".").split(".")[0]


@pytest.mark.parametrize("path", sorted(PEERS.glob("*.py")), ids=lambda path: path.name)
def test_peer_imports_nothing_of_this_project_and_stays_short(path: Path) -> None:
    source = path.read_text()
    assert set(imported(source)).isdisjoint({"vlga_jax", "benchmarks", "experiments", "main", "tests"})
    assert len(source.splitlines()) <= 300


def test_requirements_of_the_optuna_peer_are_those_of_the_pytorch_peer_and_optuna() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (PEERS / f"requirements-{name}.txt").read_text().splitlines()
        return dict(line.split(" ")[0].split("==") for line in lines)

    ours, pytorch = pins("optuna"), pins("pytorch")
    assert set(ours) == {"numpy", "optuna", "torch"}
    assert all(ours[name] == pytorch[name] for name in ("numpy", "torch"))


def test_read_job_of_a_good_job_returns_it_with_init(tmp_path: Path) -> None:
    assert read_job(written(tmp_path, JOB)) == job(final={**FINAL, "init": "searched"})
    scratch = job(final={**FINAL, "init": "scratch"})
    assert read_job(written(tmp_path, scratch)) == scratch
    assert read_job(written(tmp_path, {k: scratch[k] for k in scratch if k != "min_side"}))["min_side"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, ["epochs=0", "at least 1"]),
        ({"epochs": True}, ["epochs=True", "whole number"]),
        ({"learning_rate": 0.0}, ["learning_rate=0.0", "above 0"]),
        ({"budget_seconds": math.nan}, ["budget_seconds=nan", "above 0"]),
        ({"budget_seconds": math.inf}, ["budget_seconds=inf", "above 0"]),
        ({"pool_stride": 3}, ["pool_stride=3", "at most 2"]),
        ({"min_side": 0}, ["min_side=0", "at least 1"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"more": 1}, ["more=1", "unknown"]),
        ({"final": {**FINAL, "schedule": "linear"}}, ["final.schedule='linear'", "cosine"]),
        ({"final": {**FINAL, "momentum": 0.9}}, ["final.momentum=0.9", "unknown"]),
        ({"final": {**FINAL, "label_smoothing": 1}}, ["final.label_smoothing=1", "below 1"]),
        ({"final": []}, ["final=[]", "mapping"]),
        ({"space": {**SPACE, "a_kernel": [3, 4]}}, ["space.a_kernel=4", "odd"]),
        ({"space": {**SPACE, "a_kernel": [3, 3]}}, ["space.a_kernel=3", "once"]),
        ({"space": {**SPACE, "a_kernel": []}}, ["space.a_kernel=[]", "list of choices"]),
        ({"space": {**SPACE, "activation": ["selu"]}}, ["space.activation='selu'", "relu"]),
        ({"space": {**SPACE, "include_b": [0, True]}}, ["space.include_b=0", "true"]),
        ({"space": {**SPACE, "dropout_rate": [0.0]}}, ["space.dropout_rate", "unknown"]),
        ({"min_convolutions": 8}, ["max_convolutions=7", "min_convolutions=8"]),
        (
            {"min_convolutions": 3, "max_convolutions": 3, "space": {**SPACE, "include_b": [True]}},
            ["max_convolutions=3", "min_convolutions=3"],
        ),
    ],
)
def test_read_job_of_a_wrong_field_names_it_in_one_line(
    changes: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(JobError) as raised:
        read_job(written(tmp_path, job(**changes)))
    (line,) = str(raised.value).splitlines()
    assert all(word in line for word in words), line


@pytest.mark.parametrize("name", sorted(JOB.keys() - {"min_side"}))
def test_read_job_without_a_field_names_it(name: str, tmp_path: Path) -> None:
    values = job()
    del values[name]
    with pytest.raises(JobError, match=f"^{name}=None: is missing"):
        read_job(written(tmp_path, values))


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"epochs": 1'])
def test_read_job_of_something_else_names_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(JobError, match=r"^--job='.*job\.json'"):
        read_job(path)
    with pytest.raises(JobError, match=r"^--job='.*missing\.json'"):
        read_job(tmp_path / "missing.json")


def test_genes_are_those_of_the_search_space() -> None:
    assert set(optuna_job.GENES) == set(SPACE)


def arrays() -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for count, split in enumerate(("train", "validation", "test"), start=2):
        made[f"{split}_images"] = np.full((count, 8, 8, 3), count, np.uint8)
        made[f"{split}_labels"] = np.arange(count, dtype=np.int32)
    return made


def test_load_images_of_good_arrays_returns_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", **arrays())  # type: ignore[arg-type]
    loaded = load_images(job(images=str(tmp_path / "images.npz")))
    assert loaded.keys() == arrays().keys()
    assert all((loaded[name] == array).all() for name, array in arrays().items())


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("test_images", None, "test_images"),
        ("test_images", np.zeros((4, 8, 8, 3)), "test_images must be uint8"),
        ("test_images", np.zeros((4, 8, 8, 1), np.uint8), "test_images must be uint8"),
        ("test_images", np.zeros((3, 8, 8, 3), np.uint8), "test_images must be uint8"),
        ("train_images", np.zeros((2, 8, 9, 3), np.uint8), "square"),
        ("train_labels", np.array([0, 10]), "train_labels"),
        ("train_labels", np.array([0, -1]), "train_labels"),
        ("train_labels", np.zeros((2, 10), np.int32), "train_labels"),
    ],
)
def test_load_images_of_a_wrong_array_names_it(name: str, array: np.ndarray | None, word: str, tmp_path: Path) -> None:
    made = arrays()
    del made[name]
    if array is not None:
        made[name] = array
    np.savez(tmp_path / "images.npz", **made)  # type: ignore[arg-type]
    with pytest.raises(JobError, match=word):
        load_images(job(images=str(tmp_path / "images.npz")))


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04"])
def test_load_images_of_something_else_names_the_file(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError, match=r"^images='.*images\.npz': cannot be read"):
        load_images(job(images=str(path)))


def test_load_images_of_colour_smaller_than_the_crop_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", **arrays())  # type: ignore[arg-type]
    with pytest.raises(JobError, match="final.crop_padding=8"):
        load_images(job(images=str(tmp_path / "images.npz"), final={**FINAL, "crop_padding": 8}))


@pytest.mark.parametrize(
    ("least", "most", "include_b", "expected"),
    [
        (2, 2, [True, False], [1]),
        (2, 7, [True, False], [1, 2, 3, 4, 5, 6]),
        (6, 7, [True, False], [3, 4, 5, 6]),
        (2, 7, [True], [1, 2, 3]),
        (3, 7, [True], [2, 3]),
        (4, 6, [False], [3, 4, 5]),
        (3, 3, [True], []),
    ],
)
def test_block_counts_of_hand_worked_bounds(least: int, most: int, include_b: list[bool], expected: list[int]) -> None:
    space = {**SPACE, "include_b": include_b}
    assert block_counts(job(min_convolutions=least, max_convolutions=most, space=space)) == expected


@pytest.mark.parametrize(("least", "most"), [(2, 7), (6, 7), (2, 2), (4, 4)])
@pytest.mark.parametrize("include_b", [[True, False], [False, True], [True], [False]])
def test_suggest_genes_over_many_trials_reaches_all_lengths_within_the_bounds(
    least: int, most: int, include_b: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "known", {})
    given = job(min_convolutions=least, max_convolutions=most, space={**SPACE, "include_b": include_b})
    drawn = [suggest_genes(Trial(seed), given) for seed in range(500)]
    step = 2 if include_b == [True] else 1
    lengths = {sum(1 + genes["include_b"] for genes in blocks) for blocks in drawn}
    assert lengths == set(range(least, most + 1, step))


@pytest.mark.parametrize("seed", range(50))
def test_suggest_genes_suggests_exactly_what_means_something(seed: int) -> None:
    trial = Trial(seed)
    blocks = suggest_genes(trial, JOB)
    params = {"num_blocks": len(blocks)}
    for index, genes in enumerate(blocks):
        always = {"a_channels", "a_kernel", "a_batch_norm", "include_pool", "include_b", "include_skip"}
        pool = {"pool_type"} if genes["include_pool"] else set()
        b = {"b_channels", "b_kernel", "b_batch_norm"} if genes["include_b"] else set()
        assert set(genes) == always | pool | b | (set() if index else {"activation"})
        assert all(value in SPACE[name] for name, value in genes.items())  # type: ignore[operator]
        params.update({f"b{index}_{name}": value for name, value in genes.items()})
    assert trial.params.items() <= params.items()
    forced = params.keys() - trial.params.keys()
    assert "b0_include_b" in forced
    assert all(name.endswith("include_b") for name in forced)


@pytest.mark.parametrize(("num_steps", "num_warmup"), [(10, 0), (10, 3), (4, 4), (1, 0), (1, 1)])
def test_rate_factor_is_the_schedule_of_this_project(num_steps: int, num_warmup: int) -> None:
    start = 0.0 if num_warmup else 0.25  # as in vlga_jax.training.step.make_optimizer
    ours = optax.warmup_cosine_decay_schedule(start, 0.25, num_warmup, max(num_steps, num_warmup + 1))
    for step in range(num_steps + 1):
        factor = optuna_job.rate_factor(step, num_steps=num_steps, num_warmup=num_warmup)
        assert 0.25 * factor == pytest.approx(float(ours(step)), abs=1e-7)


@pytest.mark.parametrize("patience", [0, 1, 2, 5])
@pytest.mark.parametrize("seed", range(20))
def test_best_epoch_and_has_ended_agree_with_the_final_training_of_this_project(seed: int, patience: int) -> None:
    draws = random.Random(seed)
    accuracies: list[float] = []
    progress = Progress()
    for _ in range(12):
        accuracies.append(draws.choice([0.1, 0.2, 0.3, 0.4]))
        progress = progress.after(1.0, accuracies[-1], patience)
        assert optuna_job.best_epoch(accuracies) == progress.best_epoch
        assert optuna_job.has_ended(accuracies, patience) == progress.stopped
