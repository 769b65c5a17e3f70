"""Sources that need no data set library: scikit-learn's digits and directories of npz parts."""

import importlib.util
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.training.data.cache import cached, file_identities
from vlga_jax.training.data.schema import PREPARE_COMMAND, DataConfig, Examples
from vlga_jax.training.data.split import stratified_indices

_DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED = 0.2, 0  # fixed, so that every run is tested on the same digits


def read_digits(config: DataConfig, split: str) -> Examples:
    """Returns scikit-learn's 8x8 digits: 1,438 to train on and 359 to test on, a fixed stratified fifth.

    Args:
      config: how many examples, and the image size.
      split: "train" or "test".

    Raises:
      InputError: scikit-learn is not installed, or there are fewer examples than wanted.
    """
    table = _digits_table()
    labels = table[:, -1].astype(np.int32)
    images = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    train, test = stratified_indices(labels, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED)
    config.num_examples("test", len(test))  # a number too large should not come out after a whole search
    chosen = train if split == "train" else test
    chosen = chosen[: config.num_examples(split, len(chosen))]
    return Examples(_resized(images[chosen], config.image_size), labels[chosen], tuple("0123456789"))


def _digits_table() -> np.ndarray:
    """Returns 64 pixels and the label of each digit, float64 `[1797, 65]`, as `load_digits` has them.

    From scikit-learn's file: scikit-learn itself takes a second or two to import.

    Raises:
      InputError: scikit-learn is not installed.
    """
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    try:
        from sklearn.datasets import load_digits  # of a release that keeps them elsewhere
    except ImportError as error:
        raise InputError("config.data.name", "digits", "needs scikit-learn; pip install scikit-learn") from error
    digits = load_digits()
    return np.column_stack([digits.data, digits.target])


def read_npz(config: DataConfig, split: str) -> Examples:
    """Returns examples from `{split}-00000.npz`, `{split}-00001.npz`, ... in `config.dir`.

    Each part holds `images`, uint8 [n, height, width, channels], and `labels`, integers [n]; `classes.json` is a list
    of class names.

    Args:
      config: where the parts lie, how many examples, and the image size.
      split: "train" or "test".

    Raises:
      InputError: a part is missing or not in this format, or there are fewer examples than wanted.
    """
    parts, names = _npz_parts(config, split), _npz_class_names(config)
    if split == "train":
        _require_sound_test_set(parts[0], len(names), config)
    if not config.image_size:
        return _joined(parts, names, config, split)
    key = {
        "name": "npz",
        "split": split,
        "num_examples": config.num_train_examples if split == "train" else config.num_test_examples,
        "image_size": config.image_size,
        "files": file_identities([*parts, config.path() / "classes.json"]),
    }
    return cached(config.cache_dir, key, lambda: _joined(parts, names, config, split))


def _npz_parts(config: DataConfig, split: str) -> list[Path]:
    if not config.dir:
        raise InputError("config.data.dir", config.dir, "npz needs the directory of the parts")
    parts = sorted(path for path in config.path().glob(f"{split}-*.npz") if re.search(r"-\d{5}\.npz$", path.name))
    names = [path.name for path in parts]
    for name in (f"{split}-{index:05d}.npz" for index in range(max(len(parts), 1))):
        if name not in names:
            remedy = f"has no {name}; README.md, Your images, says what parts hold"
            remedy += f"; `{PREPARE_COMMAND} NAME` writes those of known sets"
            raise InputError("config.data.dir", config.dir, remedy)
    return parts


def _require_sound_test_set(train_part: Path, num_classes: int, config: DataConfig) -> None:
    """What is wrong with the test set should not come out after a whole search; its pixels are not read."""
    num_test, wanted = 0, _npz_image_shape(train_part, config)
    for path in _npz_parts(config, "test"):
        (labels,) = _npz_arrays(path, config, "labels")
        shape = _npz_image_shape(path, config)
        _require_labels(path, labels, shape[0], num_classes, config)
        if shape[3] != wanted[3] or (not config.image_size and shape != (shape[0], *wanted[1:])):
            remedy = f"{path.name} holds images of {shape[1:]}, {train_part.name} of {wanted[1:]}; they must agree"
            raise InputError("config.data.dir", config.dir, remedy)
        num_test += shape[0]
    config.num_examples("test", num_test)


def _npz_image_shape(path: Path, config: DataConfig) -> tuple[int, ...]:
    """The checked shape of a part's images, which are not read."""
    try:
        with zipfile.ZipFile(path) as part, part.open("images.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("config.data.dir", config.dir, f"{path.name} cannot be read: {error}") from error
    if dtype != np.uint8 or len(shape) != 4 or 0 in shape[1:]:
        remedy = f"images in {path.name} must be uint8 [n, height, width, channels], not {dtype} of shape {shape}"
        raise InputError("config.data.dir", config.dir, remedy)
    return tuple(shape)


def _require_labels(path: Path, labels: np.ndarray, num_images: int, num_classes: int, config: DataConfig) -> None:
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (num_images,):
        remedy = f"labels in {path.name} must be integers, one per image, not {labels.dtype} of shape {labels.shape}"
        raise InputError("config.data.dir", config.dir, remedy)
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        remedy = f"labels in {path.name} must lie in 0 to {num_classes - 1}, as classes.json says"
        raise InputError("config.data.dir", config.dir, remedy)


def _npz_arrays(path: Path, config: DataConfig, *names: str) -> list[np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
            return [part[name] for name in names]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("config.data.dir", config.dir, f"{path.name} cannot be read: {error}") from error


def _npz_class_names(config: DataConfig) -> tuple[str, ...]:
    try:
        names = json.loads((config.path() / "classes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("config.data.dir", config.dir, f"classes.json cannot be read: {error}") from error
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise InputError("config.data.dir", config.dir, "classes.json must be a list of two or more class names")
    return tuple(names)


def _joined(parts: list[Path], names: tuple[str, ...], config: DataConfig, split: str) -> Examples:
    """Returns the first examples of the parts, resized; reads no part beyond the last one needed."""
    wanted = config.num_train_examples if split == "train" else config.num_test_examples
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    num_read = 0
    for path in parts:
        if wanted and num_read >= wanted:
            break
        part_images, part_labels = _npz_part(path, len(names), config)
        if images and part_images.shape[1:] != images[0].shape[1:]:
            remedy = f"{path.name} holds images of {part_images.shape[1:]}, the parts before it {images[0].shape[1:]}"
            raise InputError("config.data.dir", config.dir, f"{remedy}; all parts must agree")
        images.append(part_images)
        labels.append(part_labels)
        num_read += len(part_labels)
    examples = Examples(np.concatenate(images), np.concatenate(labels), names)
    examples = examples.first(config.num_examples(split, num_read))
    return Examples(_resized(examples.images, config.image_size), examples.labels, names)


def _npz_part(path: Path, num_classes: int, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    shape = _npz_image_shape(path, config)
    images, labels = _npz_arrays(path, config, "images", "labels")
    _require_labels(path, labels, shape[0], num_classes, config)
    return images, labels.astype(np.int32)


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    """Returns uint8 images [n, size, size, channels], bilinear; as they are if `size` is 0."""
    if not size or images.shape[1:3] == (size, size):
        return images
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError("config.data.image_size", size, "resizing needs Pillow; pip install pillow") from error
    resized = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for image, target in zip(images, resized, strict=True):
        for channel in range(images.shape[3]):
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            target[..., channel] = np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR))
    return resized
