"""The ledger: SQLite (WAL), one transaction per evaluation, the one durable record of a run.

Schema, version 2 (`PRAGMA user_version`):

    evaluations(
      digest TEXT, environment TEXT,   -- primary key together; see evaluation.digest_of, environment.environment
      request TEXT,                    -- canonical JSON, from which the training can be repeated
      status TEXT, fitness REAL, reason TEXT,
      losses TEXT,                     -- JSON, mean loss of each whole epoch
      train_seconds REAL, compile_seconds REAL, wall_seconds REAL)
    finals(
      digest TEXT, environment TEXT,   -- of the final training
      outcome TEXT)                    -- canonical JSON, see vlga_jax.run.finish
"""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from vlga_jax.checks import InputError
from vlga_jax.disk import no_space_left
from vlga_jax.fitness.evaluation import Evaluation, Request, canonical_json, request_from_json
from vlga_jax.fitness.status import OK
from vlga_jax.training.failure import DIVERGED

SCHEMA_VERSION = 2
_BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
  digest TEXT NOT NULL, environment TEXT NOT NULL, request TEXT NOT NULL, status TEXT NOT NULL, fitness REAL NOT NULL,
  reason TEXT NOT NULL, losses TEXT NOT NULL, train_seconds REAL NOT NULL, compile_seconds REAL NOT NULL,
  wall_seconds REAL NOT NULL, PRIMARY KEY (digest, environment)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS finals (
  digest TEXT NOT NULL, environment TEXT NOT NULL, outcome TEXT NOT NULL,
  PRIMARY KEY (digest, environment)) WITHOUT ROWID;
"""


class Ledger:
    """A run's ledger; a second one may be consulted, and what it knows is copied over when it is first used.

    Args:
      path: of the run's own ledger; made if missing.
      environment: what this run's results depend on.
      any_environment: whether results of other environments count.
      other: path of another run's ledger, only ever read; empty is none.

    Raises:
      InputError: a file is no ledger, or cannot be opened.
      sqlite3.Error: no space is left for it.
    """

    def __init__(self, path: Path, environment: str, *, any_environment: bool = False, other: str = ""):
        self._environment, self._any = environment, any_environment
        self._db = _open(path, "workdir", read_only=False)
        try:
            self._other = _open(Path(other), "config.fitness.ledger", read_only=True) if other else None
        except (InputError, sqlite3.Error):
            self._db.close()
            raise

    def find(self, request: Request) -> Evaluation | None:
        """Returns the evaluation of a request, if it is known.

        Another run's answer counts if it does not depend on that run's limits or memory, and this run's limits allow
        the network.
        """
        found = self._find(self._db, request.digest)
        if found is None and self._other is not None and request.rejection() is None:
            found = self._find(self._other, request.digest)
            if found is not None and found[2].status not in (OK, DIVERGED):
                return None
            if found is not None:
                self._insert(*found)
        return None if found is None else found[2]

    def record(self, request: Request, evaluation: Evaluation) -> None:
        """Commits an evaluation; it is durable when this returns."""
        self._insert(self._environment, request.to_json(), evaluation)

    def request(self, digest: str) -> Request | None:
        """Returns the request with this digest, if an evaluation of it is recorded."""
        row = self._db.execute("SELECT request FROM evaluations WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else request_from_json(row[0])

    def find_final(self, digest: str) -> dict[str, Any] | None:
        """Returns the outcome of a final training, if it is recorded."""
        query = "SELECT outcome FROM finals WHERE digest = ? AND environment = ?"
        row = self._db.execute(query, (digest, self._environment)).fetchone()
        return None if row is None else json.loads(row[0])

    def record_final(self, digest: str, outcome: dict[str, Any]) -> None:
        """Commits the outcome of a final training."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO finals VALUES (?, ?, ?)", (digest, self._environment, canonical_json(outcome))
            )

    def other_environments(self) -> list[str]:
        """Returns the environments other than this run's whose evaluations are recorded here."""
        query = "SELECT DISTINCT environment FROM evaluations WHERE environment != ? ORDER BY environment"
        return [row[0] for row in self._db.execute(query, (self._environment,))]

    def close(self) -> None:
        self._db.close()
        if self._other is not None:
            self._other.close()

    def _find(self, database: sqlite3.Connection, digest: str) -> tuple[str, str, Evaluation] | None:
        """Environment, request as JSON and evaluation; this environment's first, then the others by name."""
        query = (
            "SELECT environment, request, status, fitness, reason, losses, train_seconds, compile_seconds, "
            "wall_seconds FROM evaluations WHERE digest = :digest AND (environment = :own OR :any) "
            "ORDER BY environment != :own, environment LIMIT 1"
        )
        row = database.execute(query, {"digest": digest, "own": self._environment, "any": self._any}).fetchone()
        if row is None:
            return None
        environment, request, status, fitness, reason, losses, *seconds = row
        return environment, request, Evaluation(digest, status, fitness, reason, tuple(json.loads(losses)), *seconds)

    def _insert(self, environment: str, request: str, evaluation: Evaluation) -> None:
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    evaluation.digest,
                    environment,
                    request,
                    evaluation.status,
                    evaluation.fitness,
                    evaluation.reason,
                    json.dumps(evaluation.losses),
                    evaluation.train_seconds,
                    evaluation.compile_seconds,
                    evaluation.wall_seconds,
                ),
            )


def _open(path: Path, field: str, *, read_only: bool) -> sqlite3.Connection:
    if read_only and not path.is_file():
        raise InputError(field, str(path), "no such file; give the ledger.sqlite of another run, or leave it empty")
    with contextlib.ExitStack() as on_error:
        try:
            database = _connect_to_read(path) if read_only else sqlite3.connect(path, timeout=_BUSY_SECONDS)
            on_error.callback(database.close)
            if not read_only:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                remedy = f"is a ledger of version {version}; this program reads {SCHEMA_VERSION}"
                raise InputError(field, str(path), remedy)
            if not read_only and version == 0:
                database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            database.execute("SELECT digest, environment FROM evaluations LIMIT 1")
        except sqlite3.Error as error:
            if no_space_left(error):
                raise
            remedy = f"is no ledger that can be used ({error}); give another path"
            raise InputError(field, str(path), remedy) from error
        on_error.pop_all()
    return database


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """To read a WAL database SQLite makes two files beside it; where it may not, and nobody writes, it needs none."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    database = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)
    try:
        database.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except sqlite3.Error as error:
        database.close()
        if not isinstance(error, sqlite3.OperationalError) or path.with_name(f"{path.name}-wal").exists():
            raise
        database = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return database
