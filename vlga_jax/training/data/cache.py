"""Decoded images on disk: an entry is a directory of .npy files that appears whole or not at all.

An entry that cannot be read, or whose bytes are not those that were written, counts as absent; a cache that cannot be
written costs a warning. Nothing here ever ends a run.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlga_jax.training.data.schema import Examples
from vlga_jax.user_cache import user_cache

_FORMAT = 1  # part of every key: raise it when decoding changes, and old entries are not read any more
_UNFINISHED = ".unfinished-"
_ABANDONED_SECONDS = 24 * 3600.0


def cached(cache_dir: str, key: Mapping[str, Any], decode: Callable[[], Examples]) -> Examples:
    """Returns what `decode` gives, from disk if it was decoded before.

    Args:
      cache_dir: where entries lie; empty = vlga_jax/data in the user's cache directory.
      key: all that the decoded images depend on, as JSON values.
      decode: called if there is no sound entry for the key.
    """
    named = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
    entry = _directory(cache_dir) / hashlib.sha256(named.encode()).hexdigest()[:32]
    examples = _read(entry)
    if examples is None:
        examples = decode()
        try:
            _write(entry, examples, named)
        except OSError as error:
            logging.getLogger(__name__).warning("decoded images are not cached: %s", error)
    return examples


def file_identities(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[str, int, int]]:
    """Returns for each file its resolved path, size in bytes and time of change in nanoseconds."""
    found = [(path.resolve(), path.stat()) for path in map(Path, paths)]
    return [(str(path), status.st_size, status.st_mtime_ns) for path, status in found]


def _directory(cache_dir: str) -> Path:
    if cache_dir:
        return Path(cache_dir).expanduser()
    return user_cache() / "data"


def _read(entry: Path) -> Examples | None:
    """Returns the entry's examples, or None if there is no sound entry."""
    try:
        about = json.loads((entry / "entry.json").read_bytes())
        # The checksum first: no damaged file reaches the parser, and no wrong pixel a fitness.
        if any(_checksum(entry / f"{name}.npy") != about["sha256"][name] for name in ("images", "labels")):
            return None
        images = np.load(entry / "images.npy", allow_pickle=False)
        labels = np.load(entry / "labels.npy", allow_pickle=False)
        return Examples(images, labels, tuple(str(name) for name in about["class_names"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(entry: Path, examples: Examples, key: str) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(entry.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=entry.parent))
    try:
        new = unfinished / "new"
        new.mkdir()
        np.save(new / "images.npy", examples.images, allow_pickle=False)
        np.save(new / "labels.npy", examples.labels, allow_pickle=False)
        about = {
            "key": json.loads(key),
            "class_names": list(examples.class_names),
            "sha256": {name: _checksum(new / f"{name}.npy") for name in ("images", "labels")},
        }
        (new / "entry.json").write_text(json.dumps(about, indent=1))
        with contextlib.suppress(FileNotFoundError):
            entry.rename(unfinished / "damaged")  # a directory cannot be renamed onto one that has files
        new.rename(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_abandoned(directory: Path) -> None:
    """Removes what killed processes left half written."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
