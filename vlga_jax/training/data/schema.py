"""What the user says about data (`DataConfig`) and what a source gives (`Examples`)."""

import dataclasses
from pathlib import Path

import numpy as np

from vlga_jax.checks import InputError, knob

PREPARE_COMMAND = "python -m vlga_jax.training.data prepare"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images to learn from; the defaults stand in experiments/default.py.

    Attributes:
      name: "digits", "npz", "folder", or an image classification set of tensorflow-datasets, as in "cifar10".
      dir: where the set lies: data_dir of tensorflow-datasets (empty = ~/tensorflow_datasets), or the directory of npz
        parts or of the classes' folders; digits need none.
      num_train_examples: examples taken from the front of the training set, validation included; 0 = all.
      num_test_examples: examples taken from the front of the test set; 0 = all.
      validation_fraction: share of the training examples held out, in (0, 1).
      split_seed: draws the stratified validation split, and the part that a fitness is trained on; independent of the
        run's seed.
      image_size: pixels; images are resized to this square (a folder's are cut to a square first); 0 = as stored.
      cache_dir: where decoded images are kept; empty = vlga_jax/data in the user's cache directory.
    """

    name: str = knob()
    dir: str = knob(may_be_empty=True)
    num_train_examples: int = knob(at_least=0)
    num_test_examples: int = knob(at_least=0)
    validation_fraction: float = knob(above=0, at_most=0.99)
    split_seed: int = knob(at_least=0)
    image_size: int = knob(at_least=0, at_most=4096)
    cache_dir: str = knob(may_be_empty=True)

    def path(self) -> Path:
        """Returns `dir`, with ~ for the user's home."""
        return Path(self.dir).expanduser()

    def unusable(self, remedy: str) -> InputError:
        """Returns the error that blames the set as a whole, by its directory if it has one."""
        field = "dir" if self.dir else "name"
        return InputError(f"config.data.{field}", getattr(self, field), remedy)

    def num_examples(self, split: str, available: int) -> int:
        """Returns how many examples of a split to take.

        Args:
          split: "train" or "test".
          available: examples the split has.

        Raises:
          InputError: there are none, or more are wanted than there are.
        """
        if not available:
            raise self.unusable(f"its {split} set has no examples; give more images")
        wanted = self.num_train_examples if split == "train" else self.num_test_examples
        if wanted > available:
            remedy = f"the {split} set of {self.name} has {available} examples; give at most that, or 0 for all"
            raise InputError(f"config.data.num_{split}_examples", wanted, remedy)
        return wanted or available


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images of one split, in stored order.

    Attributes:
      images: uint8 [num_examples, height, width, channels].
      labels: int32 [num_examples], each in [0, num_classes).
      class_names: one per class.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def first(self, count: int) -> "Examples":
        """Returns the first `count` examples."""
        return Examples(self.images[:count], self.labels[:count], self.class_names)
