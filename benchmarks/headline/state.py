"""Runs pieces within a time limit and remembers what each took, over all calls."""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline.pieces import Piece
from benchmarks.machine import machine
from vlga_jax.checks import InputError
from vlga_jax.run.history import write_atomically

_ROOT = Path(__file__).resolve().parents[2]
_WIND_DOWN_SECONDS = 15.0  # before the limit, in which an interrupted run ends and the report is written
_LEAST_SECONDS = 40.0  # that are worth starting a process for
_POLL_SECONDS = 0.2
_KEEP_SECONDS = 5.0  # between two notes of what a piece has taken so far
# A piece whose caller is killed must not go on beside the next call's: on Linux its process asks to be killed, too.
_LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextlib.contextmanager
def opened(workdir: Path, deadline: float, settings: Mapping[str, Any]) -> Iterator["State"]:
    """Holds a workdir for one call.

    Args:
      workdir: made if missing.
      deadline: `time.monotonic()` by which the call must have ended; infinity for none.
      settings: what all pieces must have in common to stand in one table; plain values.

    Raises:
      InputError: another call holds it, or its pieces had other settings.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError("--workdir", str(workdir), "is in use by another call; wait for it") from error
        yield State(workdir, deadline, settings)


class State:
    """Seconds and calls of each piece, in WORKDIR/pieces.json; see `opened`.

    Attributes:
      settings: what all pieces have in common.
      failed: names of pieces that failed in this call.
    """

    def __init__(self, workdir: Path, deadline: float, settings: Mapping[str, Any]):
        self._workdir, self._path, self._deadline = workdir, workdir / "pieces.json", deadline - _WIND_DOWN_SECONDS
        kept = (
            json.loads(self._path.read_text()) if self._path.is_file() else {"settings": dict(settings), "pieces": {}}
        )
        for name, value in settings.items():
            if kept["settings"].get(name) != value:
                remedy = f"holds pieces with {name} {kept['settings'].get(name)!r}, now it is {value!r}; give another"
                raise InputError("--workdir", str(workdir), remedy)
        self.settings, self._pieces = dict(settings), kept["pieces"]
        self._machine = machine()
        self.failed: list[str] = []

    def is_done(self, piece: Piece) -> bool:
        """Returns whether a piece is complete, as it is asked for now."""
        known = self._pieces.get(piece.name)
        return known is not None and known["done"] and _is_of(known, piece) and piece.done.is_file()

    def seconds(self, name: str) -> float:
        """Returns what a piece's processes took, compilation and start counted, over all calls."""
        return self._pieces[name]["seconds"]

    def calls(self, name: str) -> int:
        """Returns how many processes a piece took: more than one if it was interrupted."""
        return self._pieces[name]["calls"]

    def searched_after(self, name: str) -> float | None:
        """Returns how many of a run's seconds had passed when its search ended; None if that was not seen."""
        return self._pieces[name].get("searched_after")

    def machines(self, name: str) -> list[dict[str, Any]]:
        """Returns what a piece ran on, in all its calls; nothing is known of those before this was noted."""
        return self._pieces[name].get("machines", [])

    def needs(self, piece: Piece) -> float:
        """Returns how many seconds must be left for a piece to start.

        One without a break needs more than it, or one of its row that does the same, was cut short after.
        """
        if not piece.needs_seconds:
            return _LEAST_SECONDS
        alike = (
            known
            for name, known in self._pieces.items()
            if name.rpartition("-")[0] == piece.row and _is_of(known, piece)
        )
        cut_after = max((known.get("cut_after", 0.0) for known in alike), default=0.0)
        return max(_LEAST_SECONDS, piece.needs_seconds, 1.1 * cut_after)

    def run(self, pieces: Sequence[Piece]) -> None:
        """Runs what is not done until the time is up: in order, what failed before at the end.

        What needs longer than is left, or another piece that is not there yet, waits for another call.
        """
        left = [piece for piece in pieces if not self.is_done(piece)]
        for piece in sorted(left, key=lambda piece: self._pieces.get(piece.name, {}).get("failed", False)):
            waits = piece.after is not None and not piece.after.is_file()
            waits |= any(not self.is_done(other) for other in pieces if other.done == piece.after)
            if waits or self._deadline - time.monotonic() < self.needs(piece):
                continue
            piece.prepare()
            self._run(piece)

    def _run(self, piece: Piece) -> None:
        known = self._pieces.get(piece.name)
        if known is None or not _is_of(known, piece) or piece.needs_seconds:
            known = self._begin(piece)
        self._pieces[piece.name] = known
        if self._machine not in known.setdefault("machines", []):
            known["machines"].append(self._machine)
        known["calls"] += 1
        self._keep()
        left = self._deadline - time.monotonic()
        code = self._wait(piece, known)
        known["done"] = code == 0 and piece.done.is_file()
        known["failed"] = code is not None and not known["done"]
        if known["done"]:
            shutil.rmtree(self._cache_of(piece), ignore_errors=True)
            words = "done"
        elif code is None:
            words = "goes on next time"
            if piece.needs_seconds:
                known["cut_after"] = left
                words = f"cut short: it needs more than {left / 60:.1f} minutes without a break"
        else:
            self.failed.append(piece.name)
            words = f"failed with exit code {code}: {self._workdir / piece.name}.log says why"
        self._keep()
        print(f"{piece.name}: {known['seconds']:.1f} s, {words}", flush=True)

    def _begin(self, piece: Piece) -> dict[str, Any]:
        """What is known of a piece that begins from nothing: what another search left would be read as this one's.

        That is kept under another name, unless it is of this very piece, which may not have a break.
        """
        before = self._pieces.get(piece.name)
        again = before is not None and _is_of(before, piece)
        for path in filter(Path.exists, piece.owns):
            if again:
                _remove(path)
            else:
                path.rename(next(name for name in _names_of_old(path) if not name.exists()))
        for path in (piece.done, self._cache_of(piece)):
            _remove(path)
        known = {"identity": list(piece.identity), "seconds": 0.0, "calls": 0, "done": False}
        if before is not None and again and "cut_after" in before:
            known["cut_after"] = before["cut_after"]
        return known

    def _wait(self, piece: Piece, known: dict[str, Any]) -> int | None:
        """Runs a piece's process, counting its seconds; returns its exit code, None if the time was up before."""
        cache = self._cache_of(piece)  # its own, so that compiling counts
        cache.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        before, started = known["seconds"], time.monotonic()
        code, noted = None, started
        searching = piece.searched is not None and "searched_after" not in known and not piece.searched.exists()
        with open(self._workdir / f"{piece.name}.log", "a") as log:
            launch = [sys.executable, "-c", _LAUNCH, *piece.command]
            process = subprocess.Popen(launch, cwd=_ROOT, env=environment, stdout=log, stderr=log)
            try:
                while code is None and time.monotonic() < self._deadline:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = process.wait(_POLL_SECONDS)
                    searched = searching and piece.searched is not None and piece.searched.exists()
                    if searched or time.monotonic() - noted > _KEEP_SECONDS:
                        noted = time.monotonic()
                        known["seconds"] = before + noted - started
                        if searched:
                            known["searched_after"], searching = known["seconds"], False
                        self._keep()
            finally:
                _stop(process)
                known["seconds"] = before + time.monotonic() - started
                self._keep()
        return code

    def _cache_of(self, piece: Piece) -> Path:
        return self._workdir / "cache" / piece.name

    def _keep(self) -> None:
        write_atomically(self._path, json.dumps({"settings": self.settings, "pieces": self._pieces}, indent=1) + "\n")


def _is_of(known: Mapping[str, Any], piece: Piece) -> bool:
    """Whether what is known of a name is of this piece, as it is asked for now."""
    return known["identity"] == list(piece.identity)


def _names_of_old(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.old{number}") for number in itertools.count(1))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that still runs: asked to first, then killed; a run goes on after either."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_WIND_DOWN_SECONDS / 3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
