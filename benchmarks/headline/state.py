"""Runs pieces within a time limit and remembers what each took, over all calls."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline.pieces import Piece
from vlga_jax.checks import InputError
from vlga_jax.run.history import write_atomically

_ROOT = Path(__file__).resolve().parents[2]
_WIND_DOWN_SECONDS = 15.0  # before the limit, in which an interrupted run ends and the report is written
_LEAST_SECONDS = 20.0  # that are worth starting a process for
_POLL_SECONDS = 0.2
_KEEP_SECONDS = 5.0  # between two notes of what a piece has taken so far


@contextlib.contextmanager
def opened(workdir: Path, limit_seconds: float) -> Iterator["State"]:
    """Holds a workdir for one call.

    Args:
      workdir: made if missing.
      limit_seconds: of this call, 0 is none.

    Raises:
      InputError: another call holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError("--workdir", str(workdir), "is in use by another call; wait for it") from error
        yield State(workdir, limit_seconds)


class State:
    """Seconds and calls of each piece, in WORKDIR/pieces.json.

    Attributes:
      failed: names of pieces that failed in this call.
    """

    def __init__(self, workdir: Path, limit_seconds: float):
        self._workdir, self._path = workdir, workdir / "pieces.json"
        self._deadline = time.monotonic() + limit_seconds - _WIND_DOWN_SECONDS if limit_seconds else float("inf")
        self._pieces: dict[str, dict[str, Any]] = json.loads(self._path.read_text()) if self._path.is_file() else {}
        self.failed: list[str] = []

    def is_done(self, piece: Piece) -> bool:
        """Returns whether a piece is complete, as it is asked for now."""
        known = self._pieces.get(piece.name)
        return known is not None and known["done"] and known["identity"] == list(piece.identity)

    def seconds(self, name: str) -> float:
        """Returns what a piece's processes took, compilation and start counted, over all calls."""
        return self._pieces[name]["seconds"]

    def calls(self, name: str) -> int:
        """Returns how many processes a piece took: more than one if it was interrupted."""
        return self._pieces[name]["calls"]

    def run(self, pieces: Sequence[Piece]) -> None:
        """Runs what is not done, in order, until the time is up; what needs longer waits for another call."""
        for piece in pieces:
            left = self._deadline - time.monotonic()
            if self.is_done(piece) or left < max(_LEAST_SECONDS, piece.needs_seconds):
                continue
            try:
                piece.prepare()
            except FileNotFoundError:
                continue  # it needs what another piece makes, which is not there yet
            self._run(piece)

    def _run(self, piece: Piece) -> None:
        known = self._pieces.get(piece.name)
        if known is None or known["identity"] != list(piece.identity) or piece.needs_seconds:
            known = {"identity": list(piece.identity), "seconds": 0.0, "calls": 0, "done": False}
            piece.done.unlink(missing_ok=True)
        self._pieces[piece.name] = known
        known["calls"] += 1
        before, started = known["seconds"], time.monotonic()
        code = None
        cache = self._workdir / "cache" / piece.name  # its own, so that compiling counts
        if piece.needs_seconds:
            shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        log = self._workdir / f"{piece.name}.log"
        with open(log, "a") as out:
            process = subprocess.Popen(piece.command, cwd=_ROOT, env=environment, stdout=out, stderr=out)
            try:
                while code is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = process.wait(_POLL_SECONDS)
                    known["seconds"] = before + time.monotonic() - started
                    if code is None and time.monotonic() > self._deadline:
                        break
                    if known["seconds"] % _KEEP_SECONDS < _POLL_SECONDS:
                        self._keep()
            finally:
                _stop(process)
        known["seconds"] = before + time.monotonic() - started
        known["done"] = code == 0 and piece.done.is_file()
        self._keep()
        if known["done"]:
            shutil.rmtree(cache, ignore_errors=True)
            words = "done"
        elif code is None:
            words = "cut short, needs more --minutes" if piece.needs_seconds else "goes on next time"
        else:
            self.failed.append(piece.name)
            words = f"failed with exit code {code}: {log} says why"
        print(f"{piece.name}: {known['seconds']:.1f} s, {words}", flush=True)

    def _keep(self) -> None:
        write_atomically(self._path, json.dumps(self._pieces, indent=1) + "\n")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that still runs: asked to first, then killed; a run loses nothing by either."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_WIND_DOWN_SECONDS / 3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
