"""The images a network learns from: read, split and fingerprinted.

Importing this needs NumPy alone; Pillow and tensorflow-datasets are imported when a set asks for them.
A source is one function that returns `Examples` (sources.py, folder_source.py, tfds_source.py), named in `_read`.
"""

import dataclasses
import hashlib

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.training.data.folder_source import read_folder
from vlga_jax.training.data.schema import DataConfig, Examples
from vlga_jax.training.data.sources import read_digits, read_npz
from vlga_jax.training.data.split import stratified_indices, stratified_part
from vlga_jax.training.data.tfds_source import read_tfds

_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # the first four of `TrainingData`

__all__ = ["DataConfig", "TrainingData", "load_test_data", "load_training_data"]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """What a search may see; the arrays are read-only.

    Attributes:
      train_images: uint8 [num_train, height, width, channels].
      train_labels: int32 [num_train].
      validation_images: uint8 [num_validation, height, width, channels].
      validation_labels: int32 [num_validation].
      class_names: one per class.
      fingerprint: SHA-256 of the four arrays and the number of classes: what a fitness depends on.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str

    def part(self, num_train: int, seed: int) -> "TrainingData":
        """Returns the same with fewer training examples, every class in its share and none left out.

        Args:
          num_train: how many to keep at most; 0 keeps all.
          seed: draws them.

        Raises:
          InputError: it is less than one of each class.
        """
        available, num_classes = len(self.train_labels), len(self.class_names)
        if num_train == 0 or num_train >= available:
            return self
        if num_train < num_classes:
            remedy = f"must be at least {num_classes}, one of each class, or 0 for all"
            raise InputError("config.fitness.num_train_examples", num_train, remedy)
        chosen = stratified_part(self.train_labels, num_train, seed)
        train_images, train_labels = self.train_images[chosen], self.train_labels[chosen]
        arrays = (train_images, train_labels, self.validation_images, self.validation_labels)
        return _training_data(arrays, self.class_names)


def load_training_data(config: DataConfig) -> TrainingData:
    """Returns the training examples, some of them held out for validation; of the test set it checks that it is sound.

    Args:
      config: which set, how much of it, how it is split.

    Raises:
      InputError: the set is missing, unknown or unfit, has too few examples, or all are of one class.
    """
    examples = _read(config, "train")
    num_classes, num_examples = len(examples.class_names), len(examples.labels)
    if num_examples < 2 * num_classes:
        few = f"{num_examples} training examples are too few for {num_classes} classes"
        if not config.num_train_examples:
            raise config.unusable(f"{few}; give more images, at least two of each to train on")
        remedy = f"{few}; give at least {2 * num_classes}"
        raise InputError("config.data.num_train_examples", config.num_train_examples, remedy)
    if len(only := np.unique(examples.labels)) == 1:
        all_alike = f"all {num_examples} examples are of class {examples.class_names[int(only[0])]}"
        if not config.num_train_examples:
            raise config.unusable(f"{all_alike}; give examples of another class, too")
        remedy = f"{all_alike}; the first are taken, so shuffle the set or ask for more"
        raise InputError("config.data.num_train_examples", config.num_train_examples, remedy)
    kept, held_out = stratified_indices(examples.labels, config.validation_fraction, config.split_seed)
    arrays = (
        examples.images[kept],
        examples.labels[kept],
        examples.images[held_out],
        examples.labels[held_out],
    )
    return _training_data(arrays, examples.class_names)


def load_test_data(config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns the test images, uint8 [num_test, height, width, channels], and labels, int32 [num_test].

    Kept apart from `load_training_data` on purpose: the test set is read once, at the end of a run.

    Args:
      config: which set and how much of it.

    Raises:
      InputError: the set is missing, unknown or unfit, or has too few examples.
    """
    examples = _read(config, "test")
    return examples.images, examples.labels


def _read(config: DataConfig, split: str) -> Examples:
    if config.name == "digits":
        return read_digits(config, split)
    if config.name == "npz":
        return read_npz(config, split)
    if config.name == "folder":
        return read_folder(config, split)
    return read_tfds(config, split)


def _training_data(arrays: _Arrays, class_names: tuple[str, ...]) -> TrainingData:
    for array in arrays:
        array.flags.writeable = False
    return TrainingData(*arrays, class_names, _fingerprint(arrays, len(class_names)))


def _fingerprint(arrays: tuple[np.ndarray, ...], num_classes: int) -> str:
    digest = hashlib.sha256(str(num_classes).encode())
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
