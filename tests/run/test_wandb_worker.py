"""The real wandb, in its own process: where it records, what an unreachable server costs, how it ends.

Nothing here needs a network, a login or a home directory.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlga_jax.run import wandb_worker

KEY = "a" * 40


@pytest.fixture(autouse=True)
def nothing_but_the_workdir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    path = tmp_path / "work dir"
    (path / "best").mkdir(parents=True)
    (path / "best" / "weights.npz").write_bytes(b"weights")
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PROGRAM = """
import sys, time
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from test_wandb_listener import row, start, tell_of_a_run
from vlga_jax.run.tracking import TrackingConfig, make_listener
workdir = Path({workdir!r})
listener = make_listener(TrackingConfig("plain", {mode!r}, "test", {seconds}), workdir=workdir)
{then}
print("wandb imported:", "wandb" in sys.modules)
"""
WHOLE_RUN = """
began = time.monotonic()
tell_of_a_run(listener, workdir)
listener.close()
print("held up:", time.monotonic() - began)
"""
FOREVER = (
    "start(listener, workdir)\nlistener.generation_finished(rows=[row(0, 0, 0, 0.5)])\n"
    "print('worker', listener._listeners[1]._worker._process.pid, flush=True)\ntime.sleep(60)"
)


def program(mode: str, workdir: Path, seconds: float, then: str = WHOLE_RUN) -> list[str]:
    """The command of a process that tells of a run, with the real wandb."""
    tests = Path(__file__).parent
    text = PROGRAM.format(
        root=str(tests.parents[1]), tests=str(tests), workdir=str(workdir), mode=mode, seconds=seconds, then=then
    )
    return [sys.executable, "-W", "error", "-c", text]


def records(workdir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(workdir.glob("wandb/*/*.wandb")))


def test_wandb_offline_records_the_run_below_the_workdir_only(workdir: Path, tmp_path: Path) -> None:
    for attempt in (1, 2):  # the second continues the first
        done = subprocess.run(program("offline", workdir, 30.0), capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "wandb: recorded offline; to send it: wandb sync '" in done.stdout
        assert "wandb imported: False" in done.stdout
        assert len(list(workdir.glob("wandb/offline-run-*"))) == attempt
    recorded = records(workdir)
    run_id = (workdir / "wandb_run_id").read_text().strip()
    assert all(path.name.endswith(run_id) for path in workdir.glob("wandb/offline-run-*"))
    for name in ("fitness/best_so_far", "average_fitness/phase_02", "final/accuracy", "individuals", f"best-{run_id}"):
        assert name.encode() in recorded, name
    assert not list((tmp_path / "home").rglob("*"))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["refusing", "silent"])
def test_wandb_server_unreachable_costs_the_timeout_and_one_warning(
    kind: str, workdir: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9" if kind == "refusing" else silent_server)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    seconds = 3.0
    began = time.monotonic()
    done = subprocess.run(program("online", workdir, seconds), capture_output=True, text=True, check=True)
    wall = time.monotonic() - began
    held_up = float(done.stdout.split("held up:")[1].split()[0])
    assert held_up < seconds
    assert wall - held_up < 10  # Python starts, and nothing of wandb's hangs at its end
    assert done.stderr.startswith("warning: wandb is off, the run does not need it: ")
    assert len(done.stderr.splitlines()) == 1
    assert "finished in" in done.stdout


def test_wandb_without_a_key_warns_once_and_asks_nothing(workdir: Path) -> None:
    done = subprocess.run(
        program("online", workdir, 20.0), capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert len(done.stderr.splitlines()) == 1
    assert "API key" in done.stderr


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process_id}/stat")  # where nobody collects orphans, they stay as zombies
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_wandb_run_killed_leaves_no_process_and_a_record(workdir: Path) -> None:
    command = program("offline", workdir, 20.0, FOREVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        worker = int(next(line for line in run.stdout if line.startswith("worker")).split()[1])
        wait_until(lambda: bool(list(workdir.glob("wandb/*/*.wandb"))))
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_running(worker))
    assert b"fitness/best" in records(workdir)


@pytest.mark.parametrize("fails", [False, True])
def test_finish_waits_for_the_end_of_the_record_but_not_for_long(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    hangs = threading.Event()

    def finish(*, exit_code: int) -> None:
        done.append(f"finish {exit_code}")
        if fails:
            raise TimeoutError("no server")

    def teardown() -> None:
        done.append("teardown")
        hangs.wait(60)

    monkeypatch.setattr(wandb_worker, "_RECORD_SECONDS", 0.1)
    worker: Any = wandb_worker.Worker()
    worker._run, worker._wandb = SimpleNamespace(finish=finish), SimpleNamespace(teardown=teardown)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no server") if fails else contextlib.nullcontext():
        worker.finish(exit_code=0)
    assert time.monotonic() - began < 30
    assert done == ["finish 0", "teardown"]
    hangs.set()


class FakeWorker(wandb_worker.Worker):
    """Does what a command's values say, and remembers."""

    done: list[str]

    def log(self, *, values: dict[str, Any]) -> None:
        time.sleep(values.get("sleep", 0))
        if "raise" in values:
            raise SystemExit(values["raise"])
        self.done.append("log")

    def finish(self, *, exit_code: int) -> None:
        self.done.append(f"finish {exit_code}")

    def abandon(self) -> None:
        self.done.append("abandon")


@pytest.fixture
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a `FakeWorker` in the place of the real one did."""
    monkeypatch.setattr(wandb_worker, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "done", [], raising=False)
    monkeypatch.setattr(threading, "Timer", lambda *arguments, **values: threading.Thread())  # it would end the tests
    return FakeWorker.done


@pytest.mark.parametrize(
    ("commands", "done", "last_reply"),
    [
        ([("log", {}), ("finish", 0), ("log", {})], ["log", "finish 0"], {"finish": None}),
        ([("log", {"raise": "quota"}), ("finish", 0)], ["abandon"], {"failed": "quota"}),
        (
            [("log", {"sleep": 5}), ("finish", 0)],
            ["abandon"],
            {"failed": "its server did not answer within 0.1 s (log)"},
        ),
        ([("log", {})], ["log", "abandon"], {"log": None}),  # the run was killed
    ],
)
def test_serve_commands_end_in_finish_or_are_abandoned(
    commands: list[tuple[str, Any]], done: list[str], last_reply: dict[str, Any], fake_worker: list[str]
) -> None:
    lines = [
        json.dumps({"call": call, "values": {"exit_code": value} if call == "finish" else {"values": value}})
        for call, value in commands
    ]
    replies: list[str] = []
    wandb_worker.serve(lines, replies.append, command_seconds=0.1, grace_seconds=3600.0)
    assert fake_worker == done
    assert json.loads(replies[-1]) == last_reply


def test_serve_run_killed_within_a_line_does_the_rest(fake_worker: list[str]) -> None:
    def nobody_listens(line: str) -> None:
        raise BrokenPipeError

    line = json.dumps({"call": "log", "values": {"values": {}}})
    wandb_worker.serve([line, line, line[:9]], nobody_listens, command_seconds=10.0, grace_seconds=3600.0)
    assert fake_worker == ["log", "log", "abandon"]
