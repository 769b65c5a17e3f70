"""The process that talks to wandb on behalf of a run; `wandb_listener.py` starts it and may kill it at any time.

wandb waits for its server, installs signal and exit handlers and captures the console. In a process of its own none of
that can hold up, change or outlive a run. Commands come as JSON lines on stdin, {"call": name, "values": {...}};
replies go out as JSON lines on stdout. This file is run by its path and imports nothing of vlga_jax, so it starts fast.
"""

import contextlib
import functools
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

_RECORD_SECONDS = 3.0  # in which a record's end is written; milliseconds are usual


class Worker:
    """One wandb run; every public method is a command, what it returns is the reply."""

    def start(self, *, settings: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """Starts or resumes the run; replies where it can be seen, if anywhere, and where it is recorded."""
        import wandb  # here, so that a missing or broken wandb is a reply like any other failure

        self._wandb = wandb
        self._run = wandb.init(settings=wandb.Settings(**settings), **arguments)
        url = self._run.url if settings["mode"] == "online" else None
        return {"url": url, "directory": self._run.settings.sync_dir}

    def define(self, *, metric: str, axis: str) -> None:
        """Draws `metric` over `axis`."""
        self._run.define_metric(metric, step_metric=axis)

    def log(self, *, values: dict[str, Any]) -> None:
        """Logs `values` as one step; which one is left to wandb, whose steps only grow."""
        self._run.log(values)

    def table(self, *, name: str, columns: list[str | int], rows: list[list[Any]]) -> None:
        """Logs a table."""
        self._run.log({name: self._wandb.Table(columns=columns, data=rows)})

    def summarise(self, *, values: dict[str, Any]) -> None:
        """Sets the numbers that stand for the whole run."""
        self._run.summary.update(values)

    def model(self, *, name: str, directory: str, metadata: dict[str, Any]) -> None:
        """Logs the files of `directory` as a model."""
        artifact = self._wandb.Artifact(name, type="model", metadata=metadata)
        artifact.add_dir(directory, skip_cache=True)
        self._run.log_artifact(artifact)

    def finish(self, *, exit_code: int) -> None:
        """Ends the run once all of it is sent, and waits until all of it is recorded."""
        run = self._run
        try:
            run.finish(exit_code=exit_code)
        finally:
            # The last of a record is written when wandb's own process is told to end, and `finish` returns before it
            # was: it ends with this one at the latest, written or not. Nor may it wait for a server once more.
            with contextlib.suppress(TimeoutError):
                _within(_RECORD_SECONDS, "teardown", self._wandb.teardown)

    def abandon(self) -> None:
        """Ends a run that cannot go on as a failed one, if there is one and wandb still can."""
        with contextlib.suppress(BaseException):
            self.finish(exit_code=1)


def serve(lines: Iterable[str], send: Callable[[str], Any], *, command_seconds: float, grace_seconds: float) -> None:
    """Obeys commands until `finish`, the first failure or the end of `lines`.

    The end of `lines` without `finish` means that the run was killed.

    Args:
      lines: commands.
      send: takes each command's reply, or why it failed, as a line.
      command_seconds: longest that a command may take; `start` and `finish` keep time themselves, by wandb's settings.
      grace_seconds: how long this process lives after `lines` has ended, whatever wandb is waiting for.
    """

    def reply(kind: str, value: Any) -> None:
        with contextlib.suppress(OSError):  # the run was killed: what it said is still worth recording
            send(json.dumps({kind: value}) + "\n")

    commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines, commands, grace_seconds), daemon=True).start()
    worker = Worker()
    while (command := commands.get()) is not None:
        name, values = command["call"], command["values"]
        limit = None if name in ("start", "finish") else command_seconds
        try:
            reply(name, _within(limit, name, functools.partial(getattr(worker, name), **values)))
        except BaseException as error:  # wandb turns some failures into SystemExit
            if name != "finish":
                worker.abandon()
            reply("failed", f"{error}" or type(error).__name__)
            return
        if name == "finish":
            return
    worker.abandon()


def _within(seconds: float | None, name: str, call: Callable[[], Any]) -> Any:
    """What `call` returns or raises; TimeoutError after `seconds`, with `call` left to hang in its thread."""
    if seconds is None:
        return call()
    outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"its server did not answer within {seconds:g} s ({name})") from None
    if error is not None:
        raise error
    return value


def _read(lines: Iterable[str], commands: "queue.SimpleQueue[dict[str, Any] | None]", grace_seconds: float) -> None:
    # Runs in a thread of its own, so that the end of `lines` is noticed while wandb waits.
    try:
        for line in lines:
            commands.put(json.loads(line))
    except ValueError:
        pass  # the run was killed while it wrote this line
    commands.put(None)
    timer = threading.Timer(grace_seconds, os._exit, args=(1,))
    timer.daemon = True
    timer.start()


def main() -> None:
    """Serves stdin and stdout; what wandb prints goes to stderr. Arguments: see `serve`."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    command_seconds, grace_seconds = map(float, sys.argv[1:])
    serve(
        sys.stdin,
        lambda line: replies.write(line.encode()),
        command_seconds=command_seconds,
        grace_seconds=grace_seconds,
    )
    # After a failure too, without wandb's exit handler, which would wait for the server once more.
    os._exit(0)


if __name__ == "__main__":
    main()
