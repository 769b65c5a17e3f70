"""Which images a workload uses: the real CIFAR-10 where it lies at hand, else random ones of the same shape."""

import importlib.util
import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from vlga_jax.checks import InputError
from vlga_jax.user_cache import user_cache

_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data" / "tfds"
IMAGE_SHAPE, NUM_CLASSES = (32, 32, 3), 10
_NUM_TEST = 100  # never looked at; the format wants a test set


def choose_images(config: ConfigDict, directory: str) -> str:
    """Fills in where a configuration's images lie; returns `cifar10`, `npz` or `random`.

    Args:
      config: whose `data` is filled in; `num_train_examples` says how many are used.
      directory: of CIFAR-10: tfds' own, or decoded parts (npz); empty is the usual place.

    Raises:
      InputError: `directory` is given and is none.
    """
    path = Path(directory) if directory else _BESIDE_CHECKOUT
    if directory and not path.is_dir():
        raise InputError("--data_dir", directory, "no such directory; give that of tfds' CIFAR-10 or of decoded parts")
    config.data.dir = str(path)
    if (path / "train-00000.npz").is_file():
        config.data.name = "npz"
        return "npz"
    if (path / "cifar10").is_dir() and (directory or _reads_tfds()):
        if not _reads_tfds():
            remedy = "needs tensorflow-datasets and Pillow; give decoded parts (npz)"
            raise InputError("--data_dir", directory, remedy)
        return "cifar10"
    if directory:
        raise InputError("--data_dir", directory, "holds neither cifar10/ of tfds nor train-00000.npz")
    config.data.name, config.data.dir = "npz", str(_random_images(config.data.num_train_examples))
    return "random"


def _reads_tfds() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("tensorflow_datasets", "PIL"))


def _random_images(num_examples: int) -> Path:
    """The directory of random images, made if missing; read back as `config.data.name=npz`."""
    path = user_cache() / "random_images" / str(num_examples)
    if not (path / "classes.json").is_file():
        path.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        for split, size in (("train", num_examples), ("test", _NUM_TEST)):
            images = random.integers(0, 256, (size, *IMAGE_SHAPE), np.uint8)
            labels = np.resize(np.arange(NUM_CLASSES, dtype=np.int32), size)
            np.savez(path / f"{split}-00000.npz", images=images, labels=labels)
        (path / "classes.json").write_text(json.dumps([str(label) for label in range(NUM_CLASSES)]))
    return path
