"""Whether a disk is full: asked before something is written, or told by an error of whoever wrote."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = tuple(map(os.strerror, _FULL))  # all that TensorStore, below Orbax, passes on
_LEAST_FREE = 1 << 20  # bytes, beside the arrays themselves


def no_space_left(error: BaseException | None) -> bool:
    """Returns whether an error, or one that it came from, says that a disk is full, or a user's share of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE):
            return True
        if any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def require_space(directory: Path, num_bytes: int) -> None:
    """Raises `OSError` where a checkpoint finds no space: Orbax, which meets a full disk halfway, prints a traceback
    from each of its threads.

    Args:
      directory: one that exists, on the disk in question.
      num_bytes: of the arrays that are to be written.
    """
    usage = shutil.disk_usage(directory)
    if usage.total and usage.free < num_bytes + _LEAST_FREE:  # some file systems tell nothing
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
