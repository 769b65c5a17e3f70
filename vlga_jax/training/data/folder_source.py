"""A folder of image files: one folder for each class, or `train` and `test` with one for each class."""

import concurrent.futures
import dataclasses
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.processor import num_cores
from vlga_jax.training.data.cache import cached, file_identities
from vlga_jax.training.data.image_file import read_image
from vlga_jax.training.data.schema import DataConfig, Examples
from vlga_jax.training.data.split import permutation, stratified_indices

_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_TRAIN_FOLDERS = ("train", "training")  # in any case
_TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")  # the first that has folders of classes
_TEST_FRACTION, _SEED = 0.2, 0  # fixed, so that every run is tested on the same files
_MOST_NAMED = 10  # files in one message
_MOST_KINDS = 3  # of files that are no images
_TOGETHER = 256  # files decoded before their sizes are looked at
_listed: dict[str, "dict[str, _Files]"] = {}  # by directory, as its training set was last read


def read_folder(config: DataConfig, split: str) -> Examples:
    """Returns the images of a folder's files in a fixed shuffled order, decoded or from the cache.

    Classes are named by the folders that hold their files, at any depth. Where there is a folder `train` (or
    `training`) with one for each class and such a folder beside it for the test (the first of `test`, `testing`, `val`,
    `valid` and `validation`), these are the splits; otherwise a stratified fifth of the files is kept for the test. The
    files are those that were there when the training set was read. How a file is read says `read_image`.

    Args:
      config: where the folder lies, how many examples, and the image size, which images that differ in size need.
      split: "train" or "test".

    Raises:
      InputError: there are no two classes, a class has no file, files cannot be read or differ in size, or there are
        fewer examples than wanted.
    """
    if importlib.util.find_spec("PIL") is None:
        raise InputError("config.data.name", "folder", "needs Pillow; pip install pillow")
    try:
        if split == "train" or config.dir not in _listed:  # files that come later must not change the split
            _listed[config.dir] = _files(config)
        found = _listed[config.dir]
        return _split(found, config, split)
    except (OSError, RuntimeError) as error:
        raise InputError("config.data.dir", config.dir, f"cannot be read ({error})") from error


def _split(found: "dict[str, _Files]", config: DataConfig, split: str) -> Examples:
    # What is wrong with the test set should not come out after a whole search.
    read = ("test", "train") if split == "train" else ("test",)
    failures: list[str] = []
    num_read = 0
    for name in read:  # the last is what is asked for
        num_read += config.num_examples(name, len(found[name].paths))
        try:
            examples = _examples(found[name], config, name)
        except _UnreadableError as error:
            failures += error.failures
    if failures:
        told = "; ".join(sorted(failures)[:_MOST_NAMED]) + ("; ..." if len(failures) > _MOST_NAMED else "")
        raise InputError("config.data.dir", config.dir, f"{len(failures)} of {num_read} images: {told}")
    return examples


class _UnreadableError(Exception):
    """Files of a split that cannot be read: `failures` has a path and the reason for each."""

    def __init__(self, failures: list[str]):
        super().__init__(f"{len(failures)} files cannot be read")
        self.failures = failures


@dataclasses.dataclass(frozen=True)
class _Files:
    paths: Sequence[Path]
    labels: np.ndarray  # int32 [paths]
    class_names: tuple[str, ...]

    def chosen(self, indices: np.ndarray) -> "_Files":
        return _Files([self.paths[index] for index in indices], self.labels[indices], self.class_names)


def _files(config: DataConfig) -> dict[str, _Files]:
    """The files of either split."""
    root = config.path()
    if not config.dir or not root.is_dir():
        raise InputError("config.data.dir", config.dir, "must be a directory with a folder of images for each class")
    of_classes = {name.lower(): name for name in _folders(root) if _folders(root / name)}
    trains, tests = (
        [of_classes[name] for name in names if name in of_classes] for names in (_TRAIN_FOLDERS, _TEST_FOLDERS)
    )
    if trains:
        if not tests:
            remedy = f"{trains[0]} needs one of {', '.join(_TEST_FOLDERS)} beside it, with a folder for each class, too"
            raise InputError("config.data.dir", config.dir, remedy)
        names = _class_names(root / trains[0], config)
        more = [name for name in _folders(root / tests[0]) if name not in names]
        if more:
            remedy = f"{tests[0]} has a class {more[0]} that {trains[0]} has not; they must agree"
            raise InputError("config.data.dir", config.dir, remedy)
        splits = {"train": _labelled(root / trains[0], names), "test": _labelled(root / tests[0], names)}
    else:
        every = _labelled(root, _class_names(root, config))
        kept, held_out = stratified_indices(every.labels, _TEST_FRACTION, _SEED)
        splits = {"train": every.chosen(kept), "test": every.chosen(held_out)}
    for label, name in enumerate(splits["train"].class_names):
        if label not in splits["train"].labels:
            remedy = f"class {name} has no image to train on; {', '.join(_SUFFIXES)} are looked for"
            raise InputError("config.data.dir", config.dir, remedy)
    if not trains and not len(splits["test"].paths):
        remedy = f"has one image of each class; give three or more, or the folders {_TRAIN_FOLDERS[0]} and test"
        raise InputError("config.data.dir", config.dir, remedy)
    return {name: files.chosen(permutation(len(files.paths), _SEED)) for name, files in splits.items()}


def _folders(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_names(directory: Path, config: DataConfig) -> tuple[str, ...]:
    names = _folders(directory)
    if len(names) < 2:
        has = f"has no folder but {names[0]}" if names else "has no folders"
        remedy = f"{directory.name} {has}; give one folder of images for each of two or more classes"
        raise InputError("config.data.dir", config.dir, remedy)
    return tuple(names)


def _labelled(directory: Path, names: tuple[str, ...]) -> _Files:
    """The image files of a split; a warning tells how many lie beside the classes' folders."""
    if beside := [path for path in directory.glob("[!.]*") if path.is_file() and _is_image(path)]:
        log = logging.getLogger(__name__)
        log.warning("images beside the folders of classes in %s, of no class and not used: %d", directory, len(beside))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = _image_files(directory / name)
        paths += found
        labels += [label] * len(found)
    return _Files(paths, np.array(labels, np.int32), names)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def _image_files(directory: Path) -> list[Path]:
    """The image files of a folder at any depth, links followed, sorted; a warning tells how many others there are."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    others: list[Path] = []
    for place, folders, files in os.walk(directory, onerror=fail, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place) / name for name in files if not name.startswith(".")):
            (found if _is_image(path) else others).append(path)
    if others:
        kinds = ", ".join(sorted({path.suffix or path.name for path in others})[:_MOST_KINDS])
        logging.getLogger(__name__).warning("other files than images in %s: %d (%s)", directory, len(others), kinds)
    return sorted(found, key=Path.as_posix)


def _examples(files: _Files, config: DataConfig, split: str) -> Examples:
    files = files.chosen(np.arange(config.num_examples(split, len(files.paths))))
    identities = json.dumps(file_identities(files.paths))
    key = {
        "name": "folder",
        "image_size": config.image_size,
        "files": hashlib.sha256(identities.encode()).hexdigest(),
        "labels": hashlib.sha256(json.dumps([files.labels.tolist(), files.class_names]).encode()).hexdigest(),
    }
    return cached(config.cache_dir, key, lambda: _decoded(files, config))


def _decoded(files: _Files, config: DataConfig) -> Examples:
    size = (config.image_size, config.image_size) if config.image_size else None

    def attempt(path: Path) -> np.ndarray | str:
        try:
            return read_image(path, size)
        except InputError as error:
            return f"{path} {error.remedy}"

    images = np.empty((len(files.paths), 0, 0, 0), np.uint8)  # until the first one tells the shape
    first: Path | None = None
    failures: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(files.paths), _TOGETHER):
            paths = files.paths[start : start + _TOGETHER]
            for index, (path, image) in enumerate(zip(paths, pool.map(attempt, paths), strict=True), start):
                if isinstance(image, str):
                    failures.append(image)
                    continue
                if first is None:
                    first, images = path, np.empty((len(files.paths), *image.shape), np.uint8)
                if image.shape != images.shape[1:]:
                    sizes = [f"{shape[1]}x{shape[0]}" for shape in (images.shape[1:], image.shape)]
                    remedy = f"{first} has {sizes[0]} pixels and {path} {sizes[1]}"
                    remedy += "; give the size to bring them to, as in 64"
                    raise InputError("config.data.image_size", config.image_size, remedy)
                images[index] = image
    if failures:
        raise _UnreadableError(failures)
    return Examples(images, files.labels, files.class_names)
