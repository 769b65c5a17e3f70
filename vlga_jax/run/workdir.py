"""A run's directory: one process at a time, one search per directory, and what may change when it is continued."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlga_jax.checks import InputError
from vlga_jax.fitness.evaluation import without
from vlga_jax.run.history import write_atomically

# What a continued run may change: none of it changes an evaluation that the search has asked for.
FREE = (
    "final.",  # a whole group
    "tracking.",
    "data.dir",
    "data.cache_dir",
    "fitness.ledger",
    "fitness.any_environment",
    "fitness.compile_threads",
    "search.winner",
    "search.winner_tolerance",
)
_FINGERPRINT = "data_fingerprint"
# Fields that configurations did not always have, off.
_LATER_EVERYWHERE: Mapping[str, Any] = {
    "space.min_side": 1,
    "space.whitening": False,
    "fitness.max_block_flops": 0,
    "fitness.num_train_examples": 0,
    "final.clip_norm": 0.0,
    "final.widen_to_flops": 0,
}
_LATER = {
    "search.child_mutation_rate": 0.0,
    "search.fine_tuning_rate": 0.0,
    "search.winner_tolerance": 0.0,
    **_LATER_EVERYWHERE,
    **{f"base.{name}": off for name, off in _LATER_EVERYWHERE.items()},  # of a comparison
}
MAY_GROW = (
    "search.num_phases",
    "search.num_generations",
    "search.num_cycles",
    "search.num_steps",
    "search.num_iterations",
    "budget.epochs",
)


@contextlib.contextmanager
def opened(workdir: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Holds a workdir for one run, made if missing; `settle` then writes what the run is.

    Args:
      workdir: the directory.
      config: nested mappings of plain values.

    Raises:
      InputError: it cannot be written, another process holds it, or it holds another search.
    """
    path = workdir / "config.json"
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(workdir / ".lock", "w"))
        except OSError as error:
            raise InputError("workdir", str(workdir), f"cannot be written ({error.strerror}); give another") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError("workdir", str(workdir), "is in use by another run; wait or give another") from error
        if path.exists():
            _require_same_search(workdir, _read(path), config)
        yield


def settle(workdir: Path, config: Mapping[str, Any], data: str) -> None:
    """Writes `config.json`, once it is known that the run can start: a mistake must not bind the directory.

    Args:
      workdir: opened.
      config: nested mappings of plain values.
      data: fingerprint of the training and validation data.

    Raises:
      InputError: the directory holds a search on other data.
    """
    path, whole = workdir / "config.json", {**config, _FINGERPRINT: data}
    if path.exists():
        _require_same_search(workdir, _read(path), whole)
    write_atomically(path, json.dumps(whole, indent=2, sort_keys=True) + "\n")


def holds(workdir: Path, config: Mapping[str, Any]) -> bool:
    """Returns whether the last run in an opened directory that could start had this very configuration."""
    path = workdir / "config.json"
    if not path.is_file():
        return False
    return {**_fields(_read(path)), _FINGERPRINT: None} == {**_fields(config), _FINGERPRINT: None}


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise InputError("workdir", str(path), f"is no JSON ({error}); give another --workdir") from error
    if not isinstance(config, dict):
        raise InputError("workdir", str(path), "holds no configuration; give another --workdir")
    return config


def _require_same_search(workdir: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, after = _fields(old), _fields(new)
    differing: dict[str, str] = {}
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        unread = name == _FINGERPRINT and None in (was, now)
        if was == now or unread or _is_free(name):
            continue
        if name in MAY_GROW and isinstance(was, int) and isinstance(now, int) and now > was > 0:
            continue
        differing[name] = f"{name} was {json.dumps(was)}, is {json.dumps(now)}"
    if _FINGERPRINT in differing:
        differing[_FINGERPRINT] = "its images or their classes were others"
    if differing:
        remedy = f"holds another search ({'; '.join(differing.values())}); use the old values or another --workdir"
        known = workdir / "ledger.sqlite"
        if known.is_file() and all(name.startswith("search.") for name in differing):
            remedy += f", where --config.fitness.ledger={known} spares what is trained already"
        raise InputError("workdir", str(workdir), remedy)


def _is_free(name: str) -> bool:
    return name in FREE or f"{name.partition('.')[0]}." in FREE


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's fields by their whole names, those too that its version did not have."""
    return {**_LATER, **_flat(config)}


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration's fields by their whole names, without those of `_LATER` that are off.

    So a configuration that says nothing of a new option is the one of before.
    """
    return without(_flat(config), _LATER)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat
