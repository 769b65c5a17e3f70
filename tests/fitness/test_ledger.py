import contextlib
import dataclasses
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vlga_jax.fitness import ledger as ledger_module
from vlga_jax.fitness.evaluation import Evaluation, failure
from vlga_jax.fitness.ledger import Ledger

HERE, THERE = '{"device":"here"}', '{"device":"there"}'
NOBODY = 65534


def evaluation_of(request: Any, fitness: float = 0.75, **changes: Any) -> Evaluation:
    evaluation = Evaluation(request.digest, "ok", fitness, "", (1.5, 0.1 + 0.2), 2.25, 0.5)
    return dataclasses.replace(evaluation, **changes)


@contextlib.contextmanager
def opened(path: Path, environment: str = HERE, **options: Any) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(path, environment, **options)) as ledger:
        yield ledger


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT * FROM evaluations ORDER BY digest, environment").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_find_after_record_returns_the_evaluation_to_the_bit(path: Path, make_request: Any) -> None:
    requests = [make_request(seed=seed) for seed in range(3)]
    evaluations = [
        evaluation_of(requests[0], 0.1 + 0.2),
        failure(requests[1], "diverged", "a loss was not finite; ünïcode, 'quotes'", train_seconds=1 / 3),
        evaluation_of(requests[2], 0.0, losses=()),
    ]
    with opened(path) as ledger:
        assert [ledger.find(request) or ledger.request(request.digest) for request in requests] == [None] * 3
        for request, evaluation in zip(requests, evaluations, strict=True):
            ledger.record(request, evaluation)
    with opened(path) as ledger:
        assert [ledger.find(request) for request in requests] == evaluations
        assert [ledger.request(request.digest) for request in requests] == requests


def test_record_that_returned_outlives_a_kill(path: Path, make_request: Any, tmp_path: Path) -> None:
    request = make_request()
    with opened(path) as ledger:
        ledger.record(request, evaluation_of(request))
        # What lies on the disk now is what a killed process leaves: nothing is closed.
        left = tmp_path / "left"
        left.mkdir()
        for file in tmp_path.glob("ledger.sqlite*"):
            shutil.copy(file, left)
    with opened(left / "ledger.sqlite") as ledger:
        assert ledger.find(request) == evaluation_of(request)


def test_record_of_each_evaluation_is_one_transaction(
    path: Path, make_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*args, **options)
        database.set_trace_callback(statements.append)
        return database

    monkeypatch.setattr(sqlite3, "connect", traced)
    with opened(path) as ledger:
        statements.clear()
        for seed in range(2):
            request = make_request(seed=seed)
            ledger.record(request, evaluation_of(request))
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "INSERT", "COMMIT"] * 2


def test_ledger_of_any_run_commits_to_the_disk_before_it_goes_on(path: Path) -> None:
    with opened(path) as ledger:
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_find_of_another_environment_is_none_unless_any_counts(path: Path, make_request: Any) -> None:
    request = make_request()
    with opened(path, THERE) as ledger:
        ledger.record(request, evaluation_of(request, 0.25))
    with opened(path) as ledger:
        assert ledger.find(request) is None
        assert ledger.other_environments() == [THERE]
    with opened(path, any_environment=True) as ledger:
        assert ledger.find(request) == evaluation_of(request, 0.25)
        ledger.record(request, evaluation_of(request, 0.5))
        assert ledger.find(request) == evaluation_of(request, 0.5), "its own result counts first"
    with opened(path, THERE) as ledger:
        assert ledger.find(request) == evaluation_of(request, 0.25)


def test_find_in_another_runs_ledger_copies_the_row_and_leaves_the_file(
    path: Path, make_request: Any, tmp_path: Path
) -> None:
    other, request, unknown = tmp_path / "other.sqlite", make_request(), make_request(seed=9)
    with opened(other) as ledger:
        ledger.record(request, evaluation_of(request))
    before = other.read_bytes()
    with opened(path, other=str(other)) as ledger:
        assert rows_of(path) == []
        assert ledger.find(request) == evaluation_of(request)
        assert ledger.find(unknown) is None
        ledger.record(unknown, evaluation_of(unknown))
    assert other.read_bytes() == before
    assert [row for row in rows_of(path) if row[0] == request.digest] == rows_of(other)
    with opened(path) as ledger:
        assert ledger.find(request) == evaluation_of(request), "no longer needs the other ledger"


def test_find_in_another_runs_ledger_of_another_environment_keeps_the_environment(
    path: Path, make_request: Any, tmp_path: Path
) -> None:
    other, request = tmp_path / "other.sqlite", make_request()
    with opened(other, THERE) as ledger:
        ledger.record(request, evaluation_of(request))
    with opened(path, other=str(other)) as ledger:
        assert ledger.find(request) is None
    with opened(path, other=str(other), any_environment=True) as ledger:
        assert ledger.find(request) == evaluation_of(request)
    assert [row[1] for row in rows_of(path)] == [THERE]


@pytest.mark.parametrize("status", ["out_of_memory", "out_of_time", "too_many_parameters", "too_many_flops"])
def test_find_in_another_runs_ledger_of_what_depends_on_that_run_is_none(
    path: Path, make_request: Any, tmp_path: Path, status: str
) -> None:
    other, request = tmp_path / "other.sqlite", make_request()
    with opened(other) as ledger:
        ledger.record(request, failure(request, status, "there"))
    with opened(path, other=str(other)) as ledger:
        assert ledger.find(request) is None
    assert rows_of(path) == []


def test_find_in_another_runs_ledger_of_a_network_over_this_runs_limit_is_none(
    path: Path, make_request: Any, tmp_path: Path
) -> None:
    other, limited = tmp_path / "other.sqlite", make_request(limits={"max_parameters": 1})
    with opened(other) as ledger:
        ledger.record(make_request(), evaluation_of(make_request()))
    with opened(path, other=str(other)) as ledger:
        assert ledger.find(limited) is None
        assert ledger.find(make_request()) == evaluation_of(make_request())


def test_find_in_another_runs_ledger_that_may_only_be_read_works(make_request: Any) -> None:
    request, user = make_request(), os.geteuid()
    with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as own:
        other = Path(shared) / "ledger.sqlite"
        with opened(other) as ledger:
            ledger.record(request, evaluation_of(request))
        other.chmod(0o444)
        Path(shared).chmod(0o555)
        Path(own).chmod(0o777)
        try:
            os.seteuid(user or NOBODY)  # no permission binds root
            with opened(Path(own) / "ledger.sqlite", other=str(other)) as ledger:
                assert ledger.find(request) == evaluation_of(request)
            assert [file.name for file in Path(shared).iterdir()] == [other.name]
        finally:
            os.seteuid(user)
            Path(shared).chmod(0o755)


@pytest.mark.parametrize("state", ["empty", "wal", "half a schema"])
def test_ledger_of_a_kill_while_it_was_made_is_made_whole(
    path: Path, make_request: Any, tmp_path: Path, state: str
) -> None:
    making = tmp_path / "making"
    making.mkdir()
    with contextlib.closing(sqlite3.connect(making / path.name, isolation_level=None)) as database:
        if state != "empty":
            database.execute("PRAGMA journal_mode = WAL")
        if state == "half a schema":
            database.execute("BEGIN")
            database.execute("CREATE TABLE evaluations (digest TEXT)")
        for file in making.iterdir():
            shutil.copy(file, tmp_path)
        path.touch()
    request = make_request()
    with opened(path) as ledger:
        ledger.record(request, evaluation_of(request))
        assert ledger.find(request) == evaluation_of(request)


_READER = """
import sqlite3, sys, time
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=0)
print("ready", flush=True)
seen, ends = [0], time.monotonic() + 60
while seen[-1] < int(sys.argv[2]) and time.monotonic() < ends:
    seen.append(database.execute("SELECT count(*) FROM evaluations").fetchone()[0])
assert seen == sorted(seen)
print(seen[-1], len(set(seen)))
"""


def test_record_beside_two_reading_processes_disturbs_none(path: Path, make_request: Any) -> None:
    num_rows = 60
    with opened(path) as ledger:
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", _READER, str(path), str(num_rows)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for reader in readers:
            assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
        for seed in range(num_rows):
            request = make_request(seed=seed)
            ledger.record(request, evaluation_of(request))
        for reader in readers:
            last, different = map(int, reader.communicate(timeout=60)[0].split())
            assert (reader.returncode, last) == (0, num_rows)
            assert different > 2, "it read while the ledger was written"


def test_record_final_of_an_outcome_is_found_in_its_environment_only(path: Path) -> None:
    outcome = {"test_accuracy": 0.1 + 0.2, "validation_accuracy": None, "num_epochs": 3}
    with opened(path) as ledger:
        assert ledger.find_final("f" * 64) is None
        ledger.record_final("f" * 64, outcome)
    with opened(path) as ledger:
        assert ledger.find_final("f" * 64) == outcome
        assert ledger.find_final("0" * 64) is None
        ledger.record_final("f" * 64, {"test_accuracy": 0.5})
        assert ledger.find_final("f" * 64) == {"test_accuracy": 0.5}
    with opened(path, THERE) as ledger:
        assert ledger.find_final("f" * 64) is None


def test_schema_in_the_docstring_is_what_the_file_holds(path: Path) -> None:
    text = ledger_module.__doc__ or ""
    version = re.search(r"Schema, version (\d+)", text)
    documented = {
        table: re.findall(r"(\w+) (TEXT|REAL)\b", re.sub("--.*", "", columns))
        for table, columns in re.findall(r"^    (\w+)\(\n((?:      .*\n)+)", text, re.M)
    }
    Ledger(path, HERE).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        actual = {table: [row[1:3] for row in database.execute(f"PRAGMA table_info({table})")] for table in tables}
        keys = {
            table: [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[5]] for table in tables
        }
        assert version is not None
        assert database.execute("PRAGMA user_version").fetchone() == (int(version[1]),)
    assert documented == actual
    assert keys == {table: ["digest", "environment"] for table in ("evaluations", "finals")}
