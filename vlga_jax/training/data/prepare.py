"""Prepares sets of tensorflow-datasets without TensorFlow, and writes them as npz parts."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.training.data.file_stand_in import tensorflow_stand_in
from vlga_jax.training.data.schema import DataConfig, Examples
from vlga_jax.training.data.tfds_source import brief, make_builder, read_tfds, supervised_keys

_PART_BYTES = 45_000_000
_PART_OVERHEAD = 4096  # zip and .npy headers
_CONNECT_SECONDS = 10.0
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
    if name in ("digits", "npz", "folder"):
        raise InputError("NAME", name, "needs no preparing; prepare takes the name of a tensorflow-datasets set")
    if archive and not os.path.exists(archive):
        raise InputError("--archive", archive, "no such file or directory")
    with _scratch_directory(directory) as scratch, tensorflow_stand_in():
        builder = make_builder(name, directory)
        supervised_keys(builder)
        if not builder.info.splits:
            _prepare(builder, archive, scratch)
        elif archive:
            print(f"note: {archive} is not used: {name} was prepared before", file=sys.stderr)
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
        print(f"note: {target} is there already; remove it to write it again", file=sys.stderr)
        return target
    config = DataConfig(
        name=name,
        dir=directory,
        num_train_examples=0,
        num_test_examples=0,
        validation_fraction=0.5,
        split_seed=0,
        image_size=image_size,
        cache_dir="",
    )
    with _scratch_directory(directory) as scratch:
        parts = Path(scratch) / "parts"
        for split in ("train", "test"):
            examples = read_tfds(config, split, use_cache=False)
            try:
                _write_parts(examples, split, parts)
            except OSError as error:
                raise InputError("--dir", directory, f"parts cannot be written: {error.strerror}") from error
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

    extract_dir = os.path.join(scratch, "extracted")
    notes: list[str] = []
    if archive:
        builder._make_download_manager = lambda **_: _local_archive(builder, archive, extract_dir, notes)
    else:
        _check_reachable(builder)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    _raise_open_files_limit()
    _encode_arrays_as_png(builder.info.features)
    config = tfds.download.DownloadConfig(extract_dir=extract_dir, try_download_gcs=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it announces what the last line here says
            builder.download_and_prepare(download_config=config, file_format="array_record")
    except InputError:
        raise
    except Exception as error:  # a builder is other people's code, and may fail in any way
        if archive and not isinstance(error, ImportError):
            remedy = f"{builder.name} cannot be made of it ({brief(error)}); give the original"
            raise InputError("--archive", archive, remedy) from error
        raise InputError("NAME", builder.name, f"cannot be prepared here ({brief(error)})") from error
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _check_reachable(builder: Any) -> None:
    """Raises an InputError if no server answers: tensorflow-datasets would try for minutes."""
    urls = list(builder.url_infos or {})
    if not urls or urllib.request.getproxies():
        return
    reasons = []
    for scheme, host in sorted({urllib.parse.urlparse(url)[:2] for url in urls}):
        address = host.partition(":")[0], int(host.partition(":")[2] or (80 if scheme == "http" else 443))
        try:
            socket.create_connection(address, timeout=_CONNECT_SECONDS).close()
            return
        except OSError as error:
            reasons.append(f"{host}: {error.strerror or error}")
    wanted = " ".join(urls[:4]) + (" ..." if len(urls) > 4 else "")
    where = "FILE" if len(urls) == 1 else "DIRECTORY"
    remedy = f"cannot be downloaded ({'; '.join(reasons)}); fetch {wanted} elsewhere and give --archive={where}"
    raise InputError("NAME", builder.name, remedy)


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


def _local_archive(builder: Any, archive: str, extract_dir: str, notes: list[str]) -> Any:
    """Returns a download manager that takes every file from `archive`; `notes` grows as it does."""
    import tensorflow_datasets as tfds
    from etils import epath
    from tensorflow_datasets.core.utils.lazy_imports_utils import tree

    class LocalArchive(tfds.download.DownloadManager):
        urls: set[str] = set()

        def download(self, urls: Any) -> Any:
            return tree.map_structure(lambda url: self._local(url).path, urls)

        def download_and_extract(self, urls: Any) -> Any:
            return self.extract(tree.map_structure(self._local, urls))

        def _local(self, url: Any) -> Any:
            resource = tfds.download.Resource(url=url) if isinstance(url, str) else url
            self.urls.add(resource.url)
            resource.path = epath.Path(_file_of(resource.url, archive, self.urls))
            published = (builder.url_infos or {}).get(resource.url)
            if published is not None and _sha256(resource.path) != published.checksum:
                notes.append(f"{resource.path} is not the published {published.filename}: its SHA-256 differs")
            return resource

    return LocalArchive(
        download_dir=extract_dir,
        extract_dir=extract_dir,
        manual_dir=archive if os.path.isdir(archive) else None,
        manual_dir_instructions=builder.MANUAL_DOWNLOAD_INSTRUCTIONS,
        dataset_name=builder.name,
    )


def _file_of(url: str, archive: str, urls: set[str]) -> Path:
    """Returns the local file that stands for `url`, one of the `urls` that the set is made of."""
    if not os.path.isdir(archive):
        if len(urls) > 1:
            remedy = f"the set is made of several files, {_names(urls)} among them; give the directory that holds them"
            raise InputError("--archive", archive, remedy)
        return Path(archive)
    path = Path(archive) / _names([url])
    if not path.is_file():
        raise InputError("--archive", archive, f"has no {path.name}; fetch it from {url}")
    return path


def _names(urls: Iterable[str]) -> str:
    return " and ".join(sorted(os.path.basename(urllib.parse.urlparse(url).path) for url in urls))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    directory.mkdir(exist_ok=True)
    (directory / "classes.json").write_text(json.dumps(examples.class_names), encoding="utf-8")
    for part, start in enumerate(range(0, len(examples.labels), per_part)):
        chosen = slice(start, start + per_part)
        np.savez(directory / f"{split}-{part:05d}.npz", images=examples.images[chosen], labels=examples.labels[chosen])
