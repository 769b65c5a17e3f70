"""What optuna_pytorch.py does without a framework: it reads and checks the job, and says which networks there are."""

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NUM_CLASSES = 10
Check = tuple[Callable[[Any], bool], str]
"""Whether a value is allowed, and in words what is."""


class JobError(ValueError):
    """A job that cannot be done; one line that names the field, its value and the remedy."""

    def __init__(self, field: str, value: object, remedy: str):
        super().__init__(" ".join(f"{field}={value!r}: {remedy}".split()))


def _whole(at_least: int, at_most: float = math.inf) -> Check:
    words = f"must be a whole number, at least {at_least}" + ("" if at_most == math.inf else f", at most {at_most}")
    return lambda value: type(value) is int and at_least <= value <= at_most, words


def _number(at_least: float = -math.inf, *, above: float = -math.inf, below: float = math.inf) -> Check:
    bounds = {"at least": at_least, "above": above, "below": below}
    words = ", ".join(f"{name} {bound}" for name, bound in bounds.items() if math.isfinite(bound))
    return (
        lambda value: type(value) in (int, float) and at_least <= value and above < value < below,
        f"must be a number {words}",
    )


def _one_of(*values: Any) -> Check:
    # By JSON's words: 1 equals true in Python.
    words = [json.dumps(value) for value in values]
    return lambda value: json.dumps(value) in words, f"must be {' or '.join(words)}"


_TEXT: Check = lambda value: isinstance(value, str) and value != "", "must be a text"
_MAPPING: Check = lambda value: isinstance(value, dict), "must be a mapping"
_CHOICES: Check = lambda value: isinstance(value, list) and len(value) > 0, "must be a list of choices"
_SWITCH = _one_of(True, False)
_CHANNELS = _whole(1)
_KERNEL: Check = lambda value: type(value) is int and value > 0 and value % 2 == 1, "must be an odd whole number"

GENES: dict[str, Check] = {
    "activation": _one_of("relu", "elu", "leaky_relu"),
    "a_channels": _CHANNELS,
    "a_kernel": _KERNEL,
    "a_batch_norm": _SWITCH,
    "include_pool": _SWITCH,
    "pool_type": _one_of("max", "average"),
    "include_b": _SWITCH,
    "b_channels": _CHANNELS,
    "b_kernel": _KERNEL,
    "b_batch_norm": _SWITCH,
    "include_skip": _SWITCH,
}
_FINAL: dict[str, Check] = {
    "epochs": _whole(1),
    "patience": _whole(0),
    "init": _one_of("searched", "scratch"),
    "batch_size": _whole(2),
    "learning_rate": _number(above=0),
    "schedule": _one_of("cosine"),
    "warmup_epochs": _number(0),
    "weight_decay": _number(0),
    "label_smoothing": _number(0, below=1),
    "flip": _SWITCH,
    "crop_padding": _whole(0),
}
_JOB: dict[str, Check] = {
    "space": _MAPPING,
    "pool_stride": _whole(1, 2),
    "min_side": _whole(1),
    "min_convolutions": _whole(2, 100),
    "max_convolutions": _whole(2, 100),
    "epochs": _whole(1),
    "batch_size": _whole(2),
    "learning_rate": _number(above=0),
    "images": _TEXT,
    "seed": _whole(0, 2**32 - 1),
    "budget_seconds": _number(above=0),
    "final": _MAPPING,
}


def read_job(path: Path) -> dict[str, Any]:
    """Returns the job of a file, checked, with `min_side` and `final.init` filled in.

    Raises:
      JobError: the file cannot be read, or a field is missing, unknown or not what README.md says.
    """
    try:
        job = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JobError("--job", str(path), f"cannot be read: {error}") from error
    if not isinstance(job, dict):
        raise JobError("--job", str(path), "must hold a mapping")
    job = {"min_side": 1, **job}
    _require(job, _JOB, "")
    job["final"] = {"init": "searched", **job["final"]}
    _require(job["final"], _FINAL, "final.")
    _require(job["space"], dict.fromkeys(GENES, _CHOICES), "space.")
    for gene, (allowed, words) in GENES.items():
        for choice in job["space"][gene]:
            if not allowed(choice) or job["space"][gene].count(choice) > 1:
                raise JobError(f"space.{gene}", choice, f"{words}, each choice once")
    if job["max_convolutions"] < job["min_convolutions"] or not block_counts(job):
        remedy = f"no network of the space has min_convolutions={job['min_convolutions']} or more and no more than this"
        raise JobError("max_convolutions", job["max_convolutions"], remedy)
    return job


def _require(values: Mapping[str, Any], checks: Mapping[str, Check], prefix: str) -> None:
    for name, value in values.items():
        if name not in checks:
            raise JobError(f"{prefix}{name}", value, f"unknown field; use {', '.join(checks)}")
    for name, (allowed, words) in checks.items():
        if name not in values:
            raise JobError(f"{prefix}{name}", None, "is missing")
        if not allowed(values[name]):
            raise JobError(f"{prefix}{name}", values[name], words)


def load_images(job: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of the job's images: `{train,validation,test}_{images,labels}`.

    Raises:
      JobError: the file cannot be read, or an array is missing or not what README.md says.
    """
    names = [f"{split}_{what}" for split in ("train", "validation", "test") for what in ("images", "labels")]
    try:
        with Path(job["images"]).open("rb") as raw, np.load(raw) as file:
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise JobError("images", job["images"], f"cannot be read: {error}") from error
    shape = arrays["train_images"].shape[1:]
    if len(shape) != 3 or shape[0] != shape[1]:
        raise JobError("images", job["images"], "train_images must be [n, height, width, channels], square")
    for images, labels in zip(names[::2], names[1::2], strict=True):
        known = arrays[images].shape == (len(arrays[labels]), *shape) and len(arrays[labels]) > 0
        if not known or arrays[images].dtype != np.uint8:
            raise JobError("images", job["images"], f"{images} must be uint8 [n, {', '.join(map(str, shape))}]")
        if arrays[labels].ndim != 1 or not np.isin(arrays[labels], np.arange(NUM_CLASSES)).all():
            raise JobError("images", job["images"], f"{labels} must be [n], from 0 to {NUM_CLASSES - 1}")
    if shape[2] == 3 and job["final"]["crop_padding"] >= shape[0]:
        remedy = f"must be less than the images' side, {shape[0]}"
        raise JobError("final.crop_padding", job["final"]["crop_padding"], remedy)
    return arrays


def block_counts(job: Mapping[str, Any]) -> list[int]:
    """Returns how many blocks a network may have, ascending."""
    return [1 + later for later in range(job["max_convolutions"] - 1) if _fits(job, 2, later)]


def _fits(job: Mapping[str, Any], num_convolutions: int, num_blocks: int) -> bool:
    """Whether this many blocks more can make a network of allowed size out of these convolutions."""
    each = [1 + with_b for with_b in job["space"]["include_b"]]
    least, most = num_convolutions + num_blocks * min(each), num_convolutions + num_blocks * max(each)
    return least <= job["max_convolutions"] and most >= job["min_convolutions"]


def suggest_genes(trial: Any, job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the genes of each block, as a trial suggests them.

    Genes that would change nothing (a pool's type without a pool, b's without b) are not suggested, nor is `include_b`
    where the number of convolutions leaves no choice.

    Args:
      trial: `optuna.Trial`, or what has its `suggest_categorical`.
      job: checked.
    """
    num_blocks = trial.suggest_categorical("num_blocks", block_counts(job))
    blocks: list[dict[str, Any]] = []
    num_convolutions = 0
    for block in range(num_blocks):
        after = num_blocks - block - 1
        possible = [b for b in job["space"]["include_b"] if _fits(job, num_convolutions + 1 + b, after)]
        blocks.append(_suggest_block(trial, job["space"], block, possible if block else [True]))
        num_convolutions += 1 + blocks[-1]["include_b"]
    return blocks


def _suggest_block(trial: Any, space: Mapping[str, Any], block: int, include_b: list[bool]) -> dict[str, Any]:
    genes: dict[str, Any] = {}

    def suggest(*names: str) -> None:
        for name in names:
            genes[name] = trial.suggest_categorical(f"b{block}_{name}", space[name])

    if block == 0:
        suggest("activation")
    suggest("a_channels", "a_kernel", "a_batch_norm", "include_pool")
    if genes["include_pool"]:
        suggest("pool_type")
    if len(include_b) == 1:
        genes["include_b"] = include_b[0]
    else:
        suggest("include_b")
    if genes["include_b"]:
        suggest("b_channels", "b_kernel", "b_batch_norm")
    suggest("include_skip")
    return genes


def rate_factor(step: int, *, num_steps: int, num_warmup: int) -> float:
    """Returns the share of the highest learning rate at a step, from 0: linear from 0, then a cosine down to 0."""
    if step < num_warmup:
        return step / num_warmup
    done = min((step - num_warmup) / max(num_steps - num_warmup, 1), 1.0)
    return 0.5 * (1 + math.cos(math.pi * done))


def best_epoch(accuracies: Sequence[float]) -> int:
    """Returns the epoch, from 0, with the best accuracy; the first among equals."""
    return max(range(len(accuracies)), key=accuracies.__getitem__)


def has_ended(accuracies: Sequence[float], patience: int) -> bool:
    """Returns whether the last `patience` epochs brought nothing better; 0 never ends a training early."""
    return 0 < patience < len(accuracies) - best_epoch(accuracies)
