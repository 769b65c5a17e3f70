"""A stand-in for TensorFlow while a set is prepared: file access, and nothing else.

tensorflow-datasets extracts archives and shuffles records through `tf.io.gfile`, and most builders read their files
with it. On a local disk that is Python's own file access. Whatever else a builder asks of it is an AttributeError.
"""

import contextlib
import glob
import importlib.util
import os
import shutil
import types
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def tensorflow_stand_in() -> Iterator[None]:
    """Hands tensorflow-datasets the stand-in for a while; does nothing where TensorFlow is installed.

    `import tensorflow` fails as before: in sys.modules the stand-in would pass for a TensorFlow that can do everything.
    """
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    from tensorflow_datasets.core.utils import lazy_imports_utils

    resolved = vars(lazy_imports_utils.tensorflow)  # etils' LazyModule keeps the module it found under this name
    resolved["_module"] = _stand_in()
    try:
        yield
    finally:
        del resolved["_module"]


class _StandIn(types.SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tf.{name} needs TensorFlow, which is not installed")


def _stand_in() -> _StandIn:
    # The errors are named in `except` clauses of tensorflow-datasets; never raised here.
    errors = ("NotFoundError", "OutOfRangeError", "ResourceExhaustedError")
    return _StandIn(
        io=types.SimpleNamespace(gfile=_gfile()),
        compat=types.SimpleNamespace(as_text=_as_text, as_str=_as_text, as_str_any=str),
        errors=types.SimpleNamespace(**{name: type(name, (Exception,), {}) for name in errors}),
    )


def _gfile() -> types.SimpleNamespace:
    return types.SimpleNamespace(
        GFile=_open,
        Open=_open,
        copy=_copy,
        exists=os.path.exists,
        glob=_glob,
        isdir=os.path.isdir,
        listdir=os.listdir,
        makedirs=lambda path: os.makedirs(path, exist_ok=True),
        mkdir=os.mkdir,
        remove=os.remove,
        rename=_rename,
        rmtree=shutil.rmtree,
        walk=os.walk,
    )


def _open(name: str | os.PathLike[str], mode: str = "r") -> IO[Any]:
    return open(name, mode, encoding=None if "b" in mode else "utf-8")


def _glob(pattern: str | os.PathLike[str] | list[str]) -> list[str]:
    patterns = pattern if isinstance(pattern, list) else [pattern]
    return sorted(path for each in patterns for path in glob.glob(os.fspath(each)))


def _copy(src: str | os.PathLike[str], dst: str | os.PathLike[str], overwrite: bool = False) -> None:
    _refuse_existing(dst, overwrite)
    shutil.copyfile(src, dst)


def _rename(src: str | os.PathLike[str], dst: str | os.PathLike[str], overwrite: bool = False) -> None:
    _refuse_existing(dst, overwrite)
    os.replace(src, dst)


def _refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    if not overwrite and os.path.exists(path):
        raise FileExistsError(f"{path} exists already")


def _as_text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value
