"""Files that are no ledger are refused, and left closed."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from vlga_jax.checks import InputError
from vlga_jax.fitness.ledger import Ledger


@pytest.mark.parametrize("field", ["workdir", "config.fitness.ledger"])
@pytest.mark.parametrize("kind", ["garbage", "directory", "newer version", "other tables"])
def test_ledger_of_a_file_that_is_none_is_refused_in_one_line_and_closed(
    tmp_path: Path, field: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.sqlite"
    if kind == "garbage":
        bad.write_bytes(b"no database at all, " * 100)
    elif kind == "directory":
        bad.mkdir()
    else:
        with contextlib.closing(sqlite3.connect(bad)) as database:
            database.execute("PRAGMA user_version = 99" if kind == "newer version" else "CREATE TABLE evaluations(x)")
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*args, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", watched)
    with pytest.raises(InputError) as caught:
        Ledger(bad, "here") if field == "workdir" else Ledger(tmp_path / "ledger.sqlite", "here", other=str(bad))
    for database in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            database.execute("SELECT 1")
    assert caught.value.field == field
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    if kind == "newer version":
        assert "is a ledger of version 99; this program reads 2" in str(caught.value)


def test_ledger_of_a_missing_other_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; give the ledger.sqlite of another run, or leave it empty"):
        Ledger(tmp_path / "ledger.sqlite", "here", other=str(tmp_path / "missing.sqlite"))
    assert not (tmp_path / "missing.sqlite").exists()
