"""What wandb is told of a run, and that a run never waits for it.

A script stands in for the process that talks to it.
"""

import json
import re
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlga_jax.run import wandb_listener
from vlga_jax.run.history import COLUMNS, HistoryRow
from vlga_jax.run.tracking import FanOut, ListenerGaveUp, TrackingConfig
from vlga_jax.run.wandb_listener import WandbListener

RESULT = {"best_fitness": 0.75, "test_accuracy": 0.5, "num_parameters": 7, "architecture": {"blocks": [1]}}


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    path = tmp_path / "work dir"
    (path / "best").mkdir(parents=True)
    (path / "best" / "weights.npz").write_bytes(b"weights")
    return path


def config(mode: str, seconds: float = 10.0) -> TrackingConfig:
    return TrackingConfig("none", mode, "test", seconds)


def row(phase: int, generation: int, individual: int, fitness: float, status: str = "ok") -> HistoryRow:
    return HistoryRow(
        phase, generation, individual, "initial", None, None, [{"kernel": 3}], 0.001, "abc", 3, fitness, status
    )


def start(listener: WandbListener | FanOut, workdir: Path) -> None:
    listener.run_started(workdir=workdir, config={"seed": 3}, num_phases=2, num_generations=1, population_size=2)


def tell_of_a_run(listener: WandbListener | FanOut, workdir: Path) -> None:
    start(listener, workdir)
    listener.generation_finished(rows=[row(0, 0, 0, 0.5), row(0, 0, 1, 0.75), row(0, 0, 2, 0.0, "diverged")])
    listener.generation_finished(rows=[row(1, 0, 0, 0.625), row(1, 0, 1, 0.375), row(1, 0, 2, 0.25, "stopped")])
    listener.generation_finished(rows=[row(2, 0, 0, 0.0, "diverged")])
    listener.final_epoch_finished(epoch=0, num_epochs=2, loss=0.5, accuracy=0.25)
    listener.final_epoch_finished(epoch=1, num_epochs=2, loss=0.25, accuracy=None)
    listener.run_finished(result=RESULT, best_dir=workdir / "best")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Replaces the process that talks to wandb by a script; `reply` and `commands` are at hand in it."""

    def install(body: str) -> None:
        path = tmp_path / "stub.py"
        head = """
            import json, sys, time
            def reply(**values): print(json.dumps(values), flush=True)
            commands = map(json.loads, sys.stdin)
        """
        path.write_text(textwrap.dedent(head) + textwrap.dedent(body))
        monkeypatch.setattr(wandb_listener, "_WORKER", path)

    return install


OBEDIENT = """
    for command in commands:
        with open({path!r}, "a") as file:
            file.write(json.dumps(command) + "\\n")
        reply(**{{command["call"]: {{"url": "http://w", "directory": "d"}} if command["call"] == "start" else None}})
        if command["call"] == "finish":
            break
"""


def test_listener_whole_run_sends_these_commands(stub: Any, tmp_path: Path, workdir: Path) -> None:
    stub(OBEDIENT.format(path=str(tmp_path / "commands")))
    listener = WandbListener(config("online"), workdir=workdir, announce=lambda text: None)
    tell_of_a_run(listener, workdir)
    listener.close()
    lines = (tmp_path / "commands").read_text().splitlines()
    commands = [(line["call"], line["values"]) for line in map(json.loads, lines)]
    start_values = commands[0][1]
    run_id = (workdir / "wandb_run_id").read_text().strip()
    assert (start_values["id"], start_values["resume"], start_values["config"]) == (run_id, "allow", {"seed": 3})
    assert start_values["dir"] == str(workdir)
    axes = {values["metric"]: values["axis"] for call, values in commands if call == "define"}
    logged = [values["values"] for call, values in commands if call == "log"]
    for values in logged:  # every metric stands over a defined axis that is logged with it
        for metric in values:
            if "/" in metric:
                assert axes[f"{metric.split('/')[0]}/*"] in values
    assert logged == [
        {
            "generation": 1,
            "phase": 1,
            "fitness/failed": 1,
            "fitness/stopped": 0,
            "fitness/best": 0.75,
            "fitness/average": 0.625,
            "fitness/best_so_far": 0.75,
            "best_fitness/phase_01": 0.75,
            "average_fitness/phase_01": 0.625,
        },
        {
            "generation": 2,
            "phase": 2,
            "fitness/failed": 0,
            "fitness/stopped": 1,
            "fitness/best": 0.625,
            "fitness/average": 0.5,
            "fitness/best_so_far": 0.75,
            "best_fitness/phase_02": 0.625,
            "average_fitness/phase_02": 0.5,
        },
        {"generation": 3, "fitness/failed": 1, "fitness/stopped": 0},
        {"final_epoch": 1, "final/loss": 0.5, "final/accuracy": 0.25},
        {"final_epoch": 2, "final/loss": 0.25},
    ]
    assert [call for call, _ in commands[-4:]] == ["summarise", "table", "model", "finish"]
    summary, table, model, finish = (values for _, values in commands[-4:])
    assert summary == {"values": {"best_fitness": 0.75, "test_accuracy": 0.5, "num_parameters": 7}}
    assert table["columns"] == list(COLUMNS)
    assert table["rows"][2] == [0, 0, 2, "initial", None, None, '[{"kernel": 3}]', 0.001, "abc", 3, 0.0, "diverged"]
    assert len(table["rows"]) == 7
    assert model == {"name": f"best-{run_id}", "directory": str(workdir / "best"), "metadata": RESULT}
    assert finish == {"exit_code": 0}


def test_listener_closed_before_the_end_reports_a_failed_run(stub: Any, tmp_path: Path, workdir: Path) -> None:
    stub(OBEDIENT.format(path=str(tmp_path / "commands")))
    listener = WandbListener(config("online"), workdir=workdir, announce=lambda text: None)
    start(listener, workdir)
    listener.close()
    last = json.loads((tmp_path / "commands").read_text().splitlines()[-1])
    assert last == {"call": "finish", "values": {"exit_code": 1}}


def test_listener_started_online_announces_the_address_once(stub: Any, tmp_path: Path, workdir: Path) -> None:
    stub(OBEDIENT.format(path=str(tmp_path / "commands")))
    said: list[str] = []
    listener = WandbListener(config("online"), workdir=workdir, announce=said.append)
    start(listener, workdir)
    assert listener._worker is not None
    replies = listener._worker.replies
    wait_until(lambda: "start" in replies)
    for generation in range(2):
        listener.generation_finished(rows=[row(0, generation, 0, 0.5)])
    listener.close()
    assert said == ["wandb: http://w"]


def test_listener_run_id_is_kept_by_the_workdir(stub: Any, tmp_path: Path, workdir: Path) -> None:
    stub(OBEDIENT.format(path=str(tmp_path / "commands")))
    for _ in range(2):
        listener = WandbListener(config("online"), workdir=workdir, announce=lambda text: None)
        start(listener, workdir)
        listener.close()
    lines = map(json.loads, (tmp_path / "commands").read_text().splitlines())
    ids = [line["values"]["id"] for line in lines if line["call"] == "start"]
    assert len(ids) == 2 and len(set(ids)) == 1
    assert re.fullmatch("[0-9a-f]{8}", ids[0])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("time.sleep(60)", "it did not start within 0.5 s"),
        ("reply(start=dict(url=None, directory='a b'))\ntime.sleep(60)", "it did not finish within 0.5 s"),
        ("reply(failed='no key\\nat all')", "no key at all"),
        ("sys.exit(3)", "its process ended unexpectedly, see "),
    ],
)
def test_listener_worker_does_not_end_well_gives_up_and_kills_it(
    body: str, reason: str, stub: Any, workdir: Path
) -> None:
    stub(body)
    said: list[str] = []
    listener = WandbListener(config("online", seconds=0.5), workdir=workdir, announce=said.append)
    start(listener, workdir)
    assert listener._worker is not None
    process = listener._worker._process
    worker = listener._worker
    if not body.startswith("time.sleep"):  # a stub that is to say something has the time to
        wait_until(lambda: "start" in worker.replies or worker.ended.is_set())
    began = time.monotonic()
    with pytest.raises(ListenerGaveUp, match=re.escape(f"wandb is off, the run does not need it: {reason}")) as raised:
        listener.close()
    assert time.monotonic() - began < 2
    assert process.poll() is not None
    assert ("to send what it recorded: wandb sync 'a b'" in str(raised.value)) == ("reply(start" in body)
    listener.close()  # says nothing more


def test_listener_failure_while_running_is_raised_at_the_next_event(stub: Any, workdir: Path) -> None:
    stub("reply(failed='no key')")
    listener = WandbListener(config("online"), workdir=workdir, announce=lambda text: None)
    start(listener, workdir)
    assert listener._worker is not None
    listener._worker.ended.wait(10)
    with pytest.raises(ListenerGaveUp, match="no key"):
        listener.generation_finished(rows=[row(0, 0, 0, 0.5)])


def test_listener_worker_reads_nothing_never_blocks_the_run(stub: Any, workdir: Path) -> None:
    stub("time.sleep(60)")
    listener = WandbListener(config("online", seconds=0.2), workdir=workdir, announce=lambda text: None)
    start(listener, workdir)
    began = time.monotonic()
    for generation in range(2000):  # far more than a pipe holds
        listener.generation_finished(rows=[row(0, generation, 0, 0.5)])
    listener.run_finished(result=RESULT, best_dir=workdir / "best")
    assert time.monotonic() - began < 2
    with pytest.raises(ListenerGaveUp):
        listener.close()
