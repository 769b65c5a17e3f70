"""SIGKILL of the real program, at random moments and at the worst ones; then the same command again.

VLGA_KILLS sets how many random kills there are, 3 if unset, and VLGA_KILL_SEED what they are drawn from.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NUM_KILLS = int(os.environ.get("VLGA_KILLS", "3"))
SEED = int(os.environ.get("VLGA_KILL_SEED", "0"))
_POLL_SECONDS = 0.002
_HUNG_SECONDS = 300.0

StartMain = Callable[..., subprocess.Popen[bytes]]
OutcomeOf = Callable[[Path], dict[str, bytes]]
LedgerRows = Callable[[Path], dict[str, tuple[Any, ...]]]
Watch = Callable[[Path], Callable[[float], bool]]
"""Of a workdir, before the process starts: tells, given the seconds since then, whether the moment has come."""


def recorded_more_than_before(how_many: int) -> Watch:
    """The ledger has gained this many evaluations."""

    def watch(workdir: Path) -> Callable[[float], bool]:
        before = num_recorded(workdir)
        return lambda _: num_recorded(workdir) >= before + how_many

    return watch


def appeared(pattern: str) -> Watch:
    """A path matches that was not there before, or is a new one of the same name."""

    def watch(workdir: Path) -> Callable[[float], bool]:
        before = inodes(workdir, pattern)
        return lambda _: bool(inodes(workdir, pattern) - before)

    return watch


def passed(seconds: float) -> Watch:
    return lambda _: lambda since_start: since_start >= seconds


def random_moments(rng: random.Random, seconds: float) -> Iterator[tuple[str, Watch, float]]:
    """Yields moments all over a run that takes `seconds`: name, watch, seconds to wait once it has come."""
    while True:
        for _ in range(2):
            rows = rng.randint(1, 3)
            yield f"{rows} more evaluations", recorded_more_than_before(rows), rng.uniform(0, 0.3)
        pattern = rng.choice(["final/*", "final/*/1*", "final/*/1", "final/*/2*", "final/*/2"])
        yield pattern, appeared(pattern), rng.uniform(0, 0.1)
        pattern = rng.choice([".best.part", "best", "result.json"])
        yield pattern, appeared(pattern), rng.uniform(0, 0.02)
        share = rng.uniform(0.3, 1.0)
        yield f"{share:.2f} of a run", passed(share * seconds), 0.0
        pattern = rng.choice(["ledger.sqlite*", "weights/*", "history.csv", "figures/*"])
        yield pattern, appeared(pattern), rng.uniform(0, 0.02)


def num_recorded(workdir: Path) -> int:
    """Evaluations in the ledger, seen from outside; 0 while it is being made."""
    path = workdir / "ledger.sqlite"
    if not path.exists() or not path.stat().st_size:
        return 0
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        try:
            return database.execute("SELECT count(*) FROM evaluations").fetchone()[0]
        except sqlite3.Error:
            return 0


def inodes(workdir: Path, pattern: str) -> set[tuple[str, int]]:
    found = set()
    for path in workdir.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def kill_at(process: subprocess.Popen[bytes], has_come: Callable[[float], bool], delay: float) -> bool:
    """Kills the process when the moment has come; returns whether that was before its end."""
    started = time.perf_counter()
    while process.poll() is None:
        since_start = time.perf_counter() - started
        assert since_start < _HUNG_SECONDS, "the run hangs"
        if has_come(since_start):
            time.sleep(delay)
            process.kill()
            break
        time.sleep(_POLL_SECONDS)
    return process.wait() == -signal.SIGKILL


def left_over(workdir: Path) -> list[str]:
    """What an undisturbed run does not leave."""
    patterns = (".*.part", ".*.old", "final", "weights/*tmp*", "best/.*", "figures/.*")
    return sorted(str(path.relative_to(workdir)) for pattern in patterns for path in workdir.glob(pattern))


@pytest.fixture
def own_cache(finished: Any, cache_home: Path, tmp_path: Path) -> Path:
    """A copy of the cache: a kill may leave a part of a program in it, which other tests should not meet."""
    return Path(shutil.copytree(cache_home, tmp_path / "cache_home"))


def test_main_killed_at_random_moments_ends_in_the_same_bytes(
    finished: Any,
    twin: Any,
    own_cache: Path,
    start_main: StartMain,
    outcome_of: OutcomeOf,
    ledger_rows: LedgerRows,
    tmp_path: Path,
) -> None:
    wanted, num_evaluations = outcome_of(finished.workdir), len(ledger_rows(finished.workdir))
    moments = random_moments(random.Random(SEED), twin.seconds)
    num_kills, num_runs = 0, 0
    while num_kills < NUM_KILLS:
        workdir, known = tmp_path / f"run_{num_runs}", dict[str, tuple[Any, ...]]()
        num_runs += 1
        killed = True
        while killed:
            name, watch, delay = next(moments) if num_kills < NUM_KILLS else ("never", passed(_HUNG_SECONDS), 0.0)
            has_come = watch(workdir)
            process = start_main(workdir, own_cache)
            killed = kill_at(process, has_come, delay)
            rows = ledger_rows(workdir) if (workdir / "ledger.sqlite").exists() else {}
            print(f"{workdir.name}: {name} + {delay:.3f} s: {'killed' if killed else 'ended'}, {len(rows)} recorded")
            # Seconds of training stand in the rows: an evaluation trained again would have others.
            assert known.items() <= rows.items()
            if killed:
                num_kills, known = num_kills + 1, rows
        log = workdir.with_name(f"{workdir.name}.log").read_text()
        assert process.returncode == 0, log
        assert outcome_of(workdir) == wanted
        timing = json.loads((workdir / "timing.json").read_text())
        assert (timing["known_before"], timing["trained_here"]) == (len(known), num_evaluations - len(known)), log
        assert left_over(workdir) == []


_KILL_ITSELF = """
import os, signal, sys
import main
from vlga_jax.fitness.ledger import Ledger

point, replace, record_final = sys.argv.pop(1), os.replace, Ledger.record_final

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

if point == "old best/ moved away, new one not in place":
    os.replace = lambda source, target: (replace(source, target), str(target).endswith(".old") and kill())
elif point == "best/ exported, no outcome yet":
    Ledger.record_final = lambda *args: kill()
elif point == "outcome recorded, checkpoints not deleted":
    Ledger.record_final = lambda *args: (record_final(*args), kill())
sys.exit(main.main(sys.argv))
"""


def test_main_killed_at_the_worst_moments_of_its_end_ends_in_the_same_bytes(
    finished: Any,
    own_cache: Path,
    start_main: StartMain,
    outcome_of: OutcomeOf,
    ledger_rows: LedgerRows,
    tmp_path: Path,
) -> None:
    workdir = Path(shutil.copytree(finished.workdir, tmp_path / "run"))
    with contextlib.closing(sqlite3.connect(workdir / "ledger.sqlite")) as database, database:
        database.execute("DELETE FROM finals")  # so that there is an old best/ to replace

    def run_until(point: str) -> None:
        returned = start_main(workdir, own_cache, "-c", _KILL_ITSELF, point).wait(timeout=_HUNG_SECONDS)
        assert returned == -signal.SIGKILL, (point, workdir.with_name("run.log").read_text())

    run_until("old best/ moved away, new one not in place")
    assert (workdir / ".best.old").exists() and not (workdir / "best").exists()
    run_until("best/ exported, no outcome yet")
    assert (workdir / "best").exists()
    run_until("outcome recorded, checkpoints not deleted")
    assert (workdir / "final").exists()
    assert start_main(workdir, own_cache).wait(timeout=_HUNG_SECONDS) == 0, workdir.with_name("run.log").read_text()

    assert outcome_of(workdir) == outcome_of(finished.workdir)
    assert ledger_rows(workdir) == ledger_rows(finished.workdir)
    assert left_over(workdir) == []
