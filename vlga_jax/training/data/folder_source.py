"""A folder of image files: one folder for each class, or `train` and `test` with one for each class."""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.training.data.cache import cached, file_identities
from vlga_jax.training.data.image_file import read_image
from vlga_jax.training.data.schema import DataConfig, Examples
from vlga_jax.training.data.split import permutation, stratified_indices

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_TEST_FOLDERS = ("test", "val", "validation")
_TEST_FRACTION, _SEED = 0.2, 0  # fixed, so that every run is tested on the same files
_MOST_NAMED = 3  # files in one message


def read_folder(config: DataConfig, split: str) -> Examples:
    """Returns the images of a folder's files in a fixed shuffled order, decoded or from the cache.

    Classes are named by the folders that hold their files, at any depth. Where there is a folder `train` and one of
    `test`, `val` and `validation`, with one for each class in both, these are the splits; otherwise a stratified fifth
    of the files is kept for the test. How a file is read says `read_image`.

    Args:
      config: where the folder lies, how many examples, and the image size, which images that differ in size need.
      split: "train" or "test".

    Raises:
      InputError: there are no two classes, a class has no file, files cannot be read or differ in size, or there are
        fewer examples than wanted.
    """
    found = _files(config)
    if split == "train":  # what is wrong with the test set should not come out after a whole search
        _examples(found["test"], config, "test")
    return _examples(found[split], config, split)


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
    folders = _folders(root)
    tests = [name for name in _TEST_FOLDERS if name in folders]
    if "train" in folders and tests:
        names = _class_names(root / "train", config)
        more = [name for name in _folders(root / tests[0]) if name not in names]
        if more:
            remedy = f"{tests[0]} has a class {more[0]} that train has not; they must agree"
            raise InputError("config.data.dir", config.dir, remedy)
        splits = {"train": _labelled(root / "train", names), "test": _labelled(root / tests[0], names)}
    else:
        every = _labelled(root, _class_names(root, config))
        kept, held_out = stratified_indices(every.labels, _TEST_FRACTION, _SEED)
        splits = {"train": every.chosen(kept), "test": every.chosen(held_out)}
    for label, name in enumerate(splits["train"].class_names):
        if label not in splits["train"].labels:
            remedy = f"class {name} has no image to train on; {', '.join(_SUFFIXES)} are looked for"
            raise InputError("config.data.dir", config.dir, remedy)
    return {name: files.chosen(permutation(len(files.paths), _SEED)) for name, files in splits.items()}


def _folders(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_names(directory: Path, config: DataConfig) -> tuple[str, ...]:
    names = _folders(directory)
    if len(names) < 2:
        has = f"has no folder but {names[0]}" if names else "has no folders"
        remedy = f"{directory.name} {has}; give one folder of images for each of two or more classes"
        if names == ["train"]:
            remedy += f", or one of {', '.join(_TEST_FOLDERS)} beside it"
        raise InputError("config.data.dir", config.dir, remedy)
    return tuple(names)


def _labelled(directory: Path, names: tuple[str, ...]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = [path for path in (directory / name).rglob("*") if _is_image(path, directory)]
        paths += sorted(found, key=Path.as_posix)
        labels += [label] * len(found)
    return _Files(paths, np.array(labels, np.int32), names)


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in _SUFFIXES and not hidden and path.is_file()


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
    logging.getLogger(__name__).info("decoding %d image files of %s", len(files.paths), config.dir)
    size = (config.image_size, config.image_size) if config.image_size else None

    def attempt(path: Path) -> np.ndarray | str:
        try:
            return read_image(path, size)
        except InputError as error:
            return f"{path} {error.remedy}"

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        attempts = list(pool.map(attempt, files.paths))
    images = [image for image in attempts if not isinstance(image, str)]
    failures = [failure for failure in attempts if isinstance(failure, str)]
    if failures:
        told = "; ".join(failures[:_MOST_NAMED]) + ("; ..." if len(failures) > _MOST_NAMED else "")
        raise InputError("config.data.dir", config.dir, f"{len(failures)} of {len(attempts)} images: {told}")
    first = images[0].shape
    for path, image in zip(files.paths, images, strict=True):
        if image.shape != first:
            remedy = (
                f"{files.paths[0]} has {first[0]}x{first[1]} pixels and {path} {image.shape[0]}x{image.shape[1]}; "
                "give the size to bring them to, as in 64"
            )
            raise InputError("config.data.image_size", config.image_size, remedy)
    return Examples(np.stack(images), files.labels, files.class_names)
