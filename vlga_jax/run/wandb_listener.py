"""A run as wandb shows it. wandb itself lives in another process (`wandb_worker.py`); this side only sends it words.

So wandb costs a run nothing while it runs. `close` waits for the rest to be sent, `wandb_timeout_seconds` at most, and
then kills the process: that is all an unreachable server can cost. What was not sent stays below WORKDIR/wandb.

What wandb shows: `fitness/best`, `fitness/average`, `fitness/best_so_far`, and how many `fitness/failed` and
`fitness/stopped`, over `generation`, which counts from 1 through the phases; `best_fitness/phase_01`,
`average_fitness/phase_01` and so on, over the same axis; `final/loss` and `final/accuracy` over `final_epoch`; the
table `individuals`; the numbers of `result.json` as the summary; the model `best-<run id>`.

A run that was killed and goes on has the same run id. It replays its generations, and so logs them again: online, their
points stand on the old ones, with equal values, so a line retraces itself; offline, each attempt has a directory below
WORKDIR/wandb, and the last one tells the whole story.
"""

import contextlib
import json
import os
import queue
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlga_jax.run.history import COLUMNS, HistoryRow, write_atomically
from vlga_jax.run.tracking import ListenerGaveUp, NullListener, TrackingConfig, scores

_WORKER = Path(__file__).with_name("wandb_worker.py")
# Shares of `wandb_timeout_seconds`. After the first, the process that talks to wandb is killed. Before that, wandb
# itself stops waiting: for its start, which takes a second or two besides, or for the last command and then for the
# end, so that it can still make its records whole.
_CLOSE_SHARE = 0.85
_START_SHARE, _COMMAND_SHARE, _FINISH_SHARE = 0.6, 0.3, 0.5
_QUIET_SECONDS = 1.0  # a longer wait is explained
_LONGEST_REASON = 300  # characters; wandb can be wordy


class WandbListener(NullListener):
    """Reports a run to wandb; gives up, once and for good, as soon as that fails.

    Args:
      config: the mode, the project and the longest wait.
      workdir: of the run; holds `wandb_run_id` and `wandb/`.
      announce: shows a line to the person watching.
    """

    def __init__(self, config: TrackingConfig, *, workdir: Path, announce: Callable[[str], None]):
        self._config, self._workdir, self._announce = config, workdir.resolve(), announce
        self._worker: _WorkerProcess | None = None
        self._rows: list[HistoryRow] = []
        self._num_generations = 0
        self._best: float | None = None
        self._finished = False
        self._shown = False

    def run_started(
        self,
        *,
        workdir: Path,
        config: Mapping[str, Any],
        num_phases: int,
        num_generations: int,
        population_size: int,
    ) -> None:
        run_id = _run_id(self._workdir)
        self._model_name = f"best-{run_id}"
        self._worker = _WorkerProcess(self._workdir / "wandb", self._config.wandb_timeout_seconds)
        self._worker.call(
            "start",
            settings=self._settings(),
            project=self._config.wandb_project,
            id=run_id,
            resume="allow",
            name=self._workdir.name,
            dir=str(self._workdir),
            config=config,
        )
        self._worker.call("define", metric="fitness/*", axis="generation")
        self._worker.call("define", metric="best_fitness/*", axis="generation")
        self._worker.call("define", metric="average_fitness/*", axis="generation")
        self._worker.call("define", metric="final/*", axis="final_epoch")

    def _settings(self) -> dict[str, Any]:
        return {
            "mode": self._config.wandb,
            "init_timeout": _START_SHARE * self._config.wandb_timeout_seconds,
            "finish_timeout": _FINISH_SHARE * self._config.wandb_timeout_seconds,
            "finish_timeout_raises": True,
            "console": "off",
            "silent": True,
            "save_code": False,
            "program": "vlga_jax",
            "x_stats_pid": os.getpid(),  # the load to record is the run's, not the worker's
        }

    def generation_finished(self, *, rows: Sequence[HistoryRow]) -> None:
        reached = scores(rows)
        self._num_generations += 1
        values: dict[str, Any] = {
            "generation": self._num_generations,
            "fitness/failed": reached.num_failed,
            "fitness/stopped": reached.num_stopped,
        }
        self._rows.extend(rows)
        if reached.best is not None:
            self._best = reached.best if self._best is None else max(self._best, reached.best)
            phase = f"phase_{rows[0].phase + 1:02d}"
            values |= {
                "phase": rows[0].phase + 1,
                "fitness/best": reached.best,
                "fitness/average": reached.average,
                "fitness/best_so_far": self._best,
                f"best_fitness/{phase}": reached.best,
                f"average_fitness/{phase}": reached.average,
            }
        self._call("log", values=values)

    def final_epoch_finished(self, *, epoch: int, num_epochs: int, loss: float, accuracy: float | None) -> None:
        values = {"final_epoch": epoch + 1, "final/loss": loss}
        self._call("log", values=values if accuracy is None else {**values, "final/accuracy": accuracy})

    def run_finished(self, *, result: Mapping[str, Any], best_dir: Path) -> None:
        self._finished = True
        numbers = {name: value for name, value in result.items() if isinstance(value, (int, float))}
        self._call("summarise", values=numbers)
        rows = [[_cell(row, column) for column in COLUMNS] for row in self._rows]
        self._call("table", name="individuals", columns=COLUMNS, rows=rows)
        self._call("model", name=self._model_name, directory=str(best_dir.resolve()), metadata=result)

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        in_time = True
        try:
            if worker.failure is None:
                worker.call("finish", exit_code=0 if self._finished else 1)
                in_time = self._wait_for(worker)
        finally:
            worker.kill()
        if not in_time:
            what = "finish" if "start" in worker.replies else "start"
            raise _gave_up(worker, f"it did not {what} within {self._config.wandb_timeout_seconds:g} s")
        self._require_no_failure(worker)
        if self._config.wandb == "offline":
            self._announce(f"wandb: recorded offline; to send it: {_sync_command(worker)}")

    def _wait_for(self, worker: "_WorkerProcess") -> bool:
        """Whether the process ended in time."""
        budget = _CLOSE_SHARE * self._config.wandb_timeout_seconds
        quiet = min(_QUIET_SECONDS, budget)
        if worker.ended.wait(quiet):
            return True
        self._announce(f"waiting for wandb, {budget - quiet:.0f} s at most")
        return worker.ended.wait(budget - quiet)

    def _call(self, command: str, /, **values: Any) -> None:
        if self._worker is None:
            return
        self._require_no_failure(self._worker)
        started = self._worker.replies.get("start")
        if started is not None and not self._shown:
            self._shown = True
            if started["url"]:
                self._announce(f"wandb: {started['url']}")
        self._worker.call(command, **values)

    def _require_no_failure(self, worker: "_WorkerProcess") -> None:
        if worker.failure is not None:
            raise _gave_up(worker, worker.failure)


class _WorkerProcess:
    """The other process; no method waits for it, as `kill` does not let it live.

    Attributes:
      replies: what each command that is done returned, by name.
      failure: why it ended before it was told to; None while it has not.
      ended: set once it says no more.
    """

    def __init__(self, directory: Path, timeout_seconds: float):
        directory.mkdir(exist_ok=True)
        self.log_path = directory / "worker.log"
        self.replies: dict[str, Any] = {}
        self.failure: str | None = None
        self.ended = threading.Event()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # By default wandb stages what it uploads, or will upload after an offline run, in the user's home.
        places = {"WANDB_DATA_DIR": str(directory / "data"), "WANDB_CACHE_DIR": str(directory / "cache")}
        with open(self.log_path, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER), str(_COMMAND_SHARE * timeout_seconds), str(timeout_seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**places, **os.environ},
                # Ctrl-C is for the run, which then tells wandb; and wandb has no terminal to ask questions on.
                start_new_session=True,
            )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def call(self, command: str, /, **values: Any) -> None:
        """Sends a command without waiting, not even for room in the pipe."""
        self._lines.put(json.dumps({"call": command, "values": values}) + "\n")

    def kill(self) -> None:
        """Ends the process now, if it has not ended, and all that belongs to it; wandb's own helper follows it."""
        self._process.kill()
        self._process.wait()
        self._lines.put(None)
        for thread in self._threads:
            thread.join(timeout=1)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _write(self) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError):  # the process is gone: `_read` says why
            while (line := self._lines.get()) is not None:
                stream.write(line)
                stream.flush()
        with contextlib.suppress(OSError):
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for kind, value in json.loads(line).items():
                if kind == "failed":
                    self.failure = " ".join(value.split())[:_LONGEST_REASON]
                else:
                    self.replies[kind] = value
        if self.failure is None and "finish" not in self.replies:
            self.failure = f"its process ended unexpectedly, see {self.log_path}"
        self.ended.set()


def _gave_up(worker: _WorkerProcess, reason: str) -> ListenerGaveUp:
    later = f"; to send what it recorded: {_sync_command(worker)}" if "start" in worker.replies else ""
    return ListenerGaveUp(f"wandb is off, the run does not need it: {reason}{later}")


def _sync_command(worker: _WorkerProcess) -> str:
    return f"wandb sync {shlex.quote(worker.replies['start']['directory'])}"


def _run_id(workdir: Path) -> str:
    """The run's wandb id: the same each time a workdir is continued."""
    path = workdir / "wandb_run_id"
    run_id = path.read_text().strip() if path.exists() else ""
    if not run_id:
        run_id = secrets.token_hex(4)
        write_atomically(path, run_id + "\n")
    return run_id


def _cell(row: HistoryRow, column: str) -> Any:
    value = getattr(row, column)
    return json.dumps(value, sort_keys=True) if column == "chromosome" else value
