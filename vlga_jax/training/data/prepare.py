"""Prepares sets of tensorflow-datasets without TensorFlow, and writes them as npz parts."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.training.data.file_stand_in import tensorflow_stand_in
from vlga_jax.training.data.schema import DataConfig, Examples
from vlga_jax.training.data.tfds_source import first_line, make_builder, read_tfds, supervised_keys

_PART_BYTES = 45_000_000
_PART_OVERHEAD = 4096  # zip and .npy headers
_OPEN_FILES = 4096  # tensorflow-datasets shuffles a set of over 1 GB through 1,000 files at once


def prepare_tfds(name: str, directory: str, archive: str = "") -> Path:
    """Returns where the set lies, prepared as array_record; one that lies there already is left as it is.

    Args:
      name: of an image classification set, as in "cifar10".
      directory: where sets are kept (data_dir of tensorflow-datasets); made if missing.
      archive: the file the set is made of, instead of a download; a directory of them for a set of several files.

    Raises:
      InputError: the set is unknown, no image classification set, cannot be downloaded or made from the archive, or the
        directory cannot be written.
    """
    if name in ("digits", "npz"):
        raise InputError("NAME", name, "needs no preparing; prepare takes the name of a tensorflow-datasets set")
    if archive and not os.path.exists(archive):
        raise InputError("--archive", archive, "no such file or directory")
    with _scratch_directory(directory) as scratch, tensorflow_stand_in():
        builder = make_builder(name, directory)
        supervised_keys(builder)
        if not builder.info.splits:
            _prepare(builder, archive, scratch)
        if builder.info.file_format.value != "array_record":
            remedy = f"holds {name} in a format that needs TensorFlow; give another directory"
            raise InputError("--dir", directory, remedy)
    return Path(builder.data_dir)


def write_npz(name: str, directory: str, image_size: int = 0) -> Path:
    """Returns a new directory of npz parts, each of at most 45 MB, made of a prepared set.

    Parts that are there already are left as they are.

    Args:
      name: of the prepared set.
      directory: where it lies; the parts go to NAME-npz beside it.
      image_size: pixels; images are resized to this square; 0 = as stored.

    Raises:
      InputError: the set is not prepared, or its images differ in size and no size was given.
    """
    target = Path(directory).expanduser() / (name.replace("/", "-").replace(":", "-") + "-npz")
    if target.exists():
        return target
    config = DataConfig(name, directory, 0, 0, 0.1, 0, image_size, "")
    with _scratch_directory(directory) as scratch:
        parts = Path(scratch) / "parts"
        parts.mkdir()
        for split in ("train", "test"):
            examples = read_tfds(config, split, use_cache=False)
            _write_parts(examples, split, parts)
            (parts / "classes.json").write_text(json.dumps(examples.class_names), encoding="utf-8")
        parts.rename(target)  # at once, so that a directory of this name is never half full
    return target


@contextlib.contextmanager
def _scratch_directory(directory: str) -> Iterator[str]:
    """Yields a new directory inside `directory`, gone afterwards."""
    try:
        parent = Path(directory).expanduser()
        parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix=".prepare-", dir=parent)
    except OSError as error:
        raise InputError("--dir", directory, f"cannot be written: {error.strerror}") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _prepare(builder: Any, archive: str, scratch: str) -> None:
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    _raise_open_files_limit()
    _encode_arrays_as_png(builder.info.features)
    extract_dir = os.path.join(scratch, "extracted")
    if archive:
        builder._make_download_manager = lambda **_: _local_archive(builder, archive, extract_dir)
    config = tfds.download.DownloadConfig(extract_dir=extract_dir, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except InputError:
        raise
    except Exception as error:  # a builder is other people's code, and may fail in any way
        raise _failure(builder, archive, error) from error


def _failure(builder: Any, archive: str, error: Exception) -> InputError:
    import requests

    reason = f"{type(error).__name__}: {first_line(error)}"
    if archive:
        return InputError("--archive", archive, f"{builder.name} cannot be made of it ({reason}); give the original")
    if isinstance(error, requests.exceptions.RequestException):
        urls = ", ".join(builder.url_infos or {}) or f"what {builder.info.homepage} offers"
        remedy = f"cannot be downloaded ({reason}); fetch {urls} by other means and give --archive=FILE"
        return InputError("NAME", builder.name, remedy)
    return InputError("NAME", builder.name, f"tensorflow-datasets cannot prepare it here ({reason})")


def _encode_arrays_as_png(features: Any) -> None:
    """Makes `features` take arrays as images: PNG is what TensorFlow would make of them, and lossless."""
    import tensorflow_datasets as tfds

    encode = features.encode_example

    def encode_example(example: Mapping[str, Any]) -> Any:
        encoded = {
            key: _png(value) if isinstance(features[key], tfds.features.Image) else value
            for key, value in example.items()
        }
        return encode(encoded)

    features.encode_example = encode_example


def _png(image: Any) -> Any:
    """Returns the PNG bytes of a uint8 array [height, width, channels]; anything else as it is."""
    from PIL import Image

    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return image
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    return file.getvalue()


def _local_archive(builder: Any, archive: str, extract_dir: str) -> Any:
    """Returns a download manager that takes every file from `archive`."""
    import tensorflow_datasets as tfds
    import tree

    class LocalArchive(tfds.download.DownloadManager):
        used: dict[str, Path] = {}

        def download(self, urls: Any) -> Any:
            return tree.map_structure(lambda url: self._local(url).path, urls)

        def download_and_extract(self, urls: Any) -> Any:
            return self.extract(tree.map_structure(self._local, urls))

        def _local(self, url: Any) -> Any:
            method = None if isinstance(url, str) else url._extract_method
            url = url if isinstance(url, str) else url.url
            self.used[url] = _file_of(url, archive, list(self.used))
            _note_if_unexpected(self.used[url], (builder.url_infos or {}).get(url))
            return tfds.download.Resource(url=url, path=self.used[url], extract_method=method)

    return LocalArchive(download_dir=extract_dir, extract_dir=extract_dir, dataset_name=builder.name)


def _file_of(url: str, archive: str, others: list[str]) -> Path:
    """Returns the local file that stands for `url`."""
    name = os.path.basename(urllib.parse.urlparse(url).path)
    if os.path.isdir(archive):
        path = Path(archive) / name
        if not path.is_file():
            raise InputError("--archive", archive, f"has no {name}; fetch it from {url}")
        return path
    if any(other != url for other in others):
        names = " and ".join(os.path.basename(urllib.parse.urlparse(other).path) for other in [*others, url])
        remedy = f"the set is made of several files, {names} among them; give the directory that holds them"
        raise InputError("--archive", archive, remedy)
    return Path(archive)


def _note_if_unexpected(path: Path, expected: Any) -> None:
    if expected is None:
        return
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected.checksum:
            print(f"note: {path} is not the published {expected.filename}: its SHA-256 differs", file=sys.stderr)


def _raise_open_files_limit() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows, not everywhere allowed
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _write_parts(examples: Examples, split: str, directory: Path) -> None:
    bytes_per_example = examples.images[0].nbytes + examples.labels.itemsize
    per_part = (_PART_BYTES - _PART_OVERHEAD) // bytes_per_example
    if not per_part:
        raise InputError("--image_size", examples.images.shape[1], f"one image is over {_PART_BYTES} bytes; give less")
    for part, start in enumerate(range(0, len(examples.labels), per_part)):
        chosen = slice(start, start + per_part)
        np.savez(directory / f"{split}-{part:05d}.npz", images=examples.images[chosen], labels=examples.labels[chosen])
