"""Full disks: which errors tell of one, and what is refused before it is written."""

import contextlib
import errno
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlga_jax.disk import no_space_left, require_space

FULL = OSError(errno.ENOSPC, "No space left on device")
# Of Orbax 0.12.8 on a tmpfs of 420 kB; paths shortened, and TensorStore's description of the array left out.
ORBAX = (
    'RESOURCE_EXHAUSTED: Error opening "zarr" driver: Error writing "best.batch_stats.block_0.b.norm.mean/.zarray" in '
    'OCDBT database at local file "/run/ocdbt.process_0/": Failed writing: "/run/ocdbt.process_0/d/a70e5a59": '
    "Failed to write 196 bytes to file 13: No space left on device [os_error_code='28']"
)


def came_from(cause: BaseException) -> BaseException:
    """What is raised from it."""
    error = RuntimeError("a checkpoint was not written")
    error.__cause__ = cause
    return error


def raised_after(first: BaseException, *, hidden: bool) -> BaseException:
    """What is raised while the first is handled; hidden by `raise ... from None`."""
    error = RuntimeError("a checkpoint was not written")
    error.__context__, error.__suppress_context__ = first, hidden
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (OSError(errno.ENOSPC, "in another language"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (came_from(FULL), True),
        (raised_after(FULL, hidden=False), True),
        (raised_after(FULL, hidden=True), False),
        (ValueError(ORBAX), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (came_from(ValueError("no room for it")), False),
        (sqlite3.OperationalError("database or disk is full"), False),  # not SQLite's own, which has a code
    ],
)
def test_no_space_left_looks_at_codes_words_and_what_an_error_came_from(error: BaseException, expected: bool) -> None:
    assert no_space_left(error) == expected


def test_no_space_left_knows_a_database_that_may_not_grow(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "full.sqlite")) as database:
        database.execute("CREATE TABLE texts (text)")
        database.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as raised:
            database.execute("INSERT INTO texts VALUES (?)", ("x" * 100_000,))
    assert no_space_left(raised.value)


@pytest.mark.parametrize(
    ("total", "free", "fits"),
    [(1 << 30, (1 << 20) + 99, False), (1 << 30, (1 << 20) + 100, True), (0, 0, True)],
)
def test_require_space_refuses_what_leaves_less_than_a_mebibyte(
    total: int, free: int, fits: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=total, free=free))
    if fits:
        require_space(tmp_path, 100)
        return
    with pytest.raises(OSError, match="No space left") as raised:
        require_space(tmp_path, 100)
    assert no_space_left(raised.value) and str(tmp_path) in str(raised.value)
