"""The benchmark's rounds, with runs in the place of processes."""

import collections
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import images
from benchmarks.runners import Runner, runners
from benchmarks.workloads import WORKLOADS, Workload

TINY = Workload("tiny", 2, 2, (8, 16), (1, 3), 2, 60, 20)
ROWS = [Runner("ours", False, ()), Runner("peer", True, ()), Runner("broken", True, ())]


class Machine:
    """Stands in for the processes; is switched off in the middle of a chosen run.

    Attributes:
      off_after: how many runs end well.
      fails: by row, which of its runs fails, counted from 1.
      other_best: by row, the phase in which the first individual is the best; in all others the last is.
      started: the rows, as they were started; a peer with the places that it was told to inherit.
    """

    def __init__(self, off_after: int, *, fails: Mapping[str, int] = {}, other_best: Mapping[str, int] = {}) -> None:
        self.off_after, self.fails, self.other_best = off_after, fails, other_best
        self.num_runs: collections.Counter[str] = collections.Counter()
        self.started: list[Any] = []

    def measure(self, runner: Runner, job: Path, chromosomes: Path, cache: Path) -> dict[str, Any]:
        phases = json.loads(chromosomes.read_text())
        self.started.append((runner.name, json.loads(job.read_text())["champions"]) if runner.peer else runner.name)
        self.num_runs[runner.name] += 1
        if self.fails.get(runner.name) == self.num_runs[runner.name]:
            raise RuntimeError(f"{runner.name} failed")
        if self.off_after == 0:
            raise KeyboardInterrupt
        self.off_after -= 1
        individuals = [
            {"phase": phase, "seconds": 1.0, "train_seconds": 1.0, "compile_seconds": 0.0, "train_flops": 1.0}
            | {"fitness": 0.5 + 0.1 * place * (-1 if self.other_best.get(runner.name) == phase else 1)}
            for phase, of_phase in enumerate(phases)
            for place, _ in enumerate(of_phase)
        ]
        own = {"waiting_seconds": 0.0, "features_seconds": 0.0, "training_seconds": 4.0}
        total = 10.0 + len(self.started)
        return {"process_seconds": total, "peak_memory_bytes": 1e9, "individuals": individuals, **own}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "results"
    directory.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_BESIDE_CHECKOUT", tmp_path / "none")
    monkeypatch.setitem(WORKLOADS, "tiny", TINY)
    monkeypatch.setattr(benchmarks, "_RESULTS", directory)
    monkeypatch.setattr(benchmarks, "_matrix_rate", lambda: 1e9)
    monkeypatch.setattr(benchmarks, "runners", lambda name, data_dir, gpu: ROWS)
    return directory


def command(*flags: str) -> int:
    return benchmarks.main(["benchmarks", *flags])


def test_a_benchmark_that_is_stopped_leaves_its_whole_rounds(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(off_after=5, fails={"broken": 1})
    monkeypatch.setattr(benchmarks, "measure", machine.measure)
    with pytest.raises(KeyboardInterrupt):
        command("--workloads=tiny", "--repeats=9")
    peer = ("peer", [1, 1])  # the best of each phase is the second of two
    assert machine.started == ["ours", peer, ("broken", [1, 1]), "ours", peer, "ours", peer]
    (path,) = results.iterdir()
    kept = json.loads(path.read_text())
    seconds = {name: [run["process_seconds"] for run in runs] for name, runs in kept["runs"].items()}
    assert seconds == {"ours": [11.0, 14.0], "peer": [12.0, 15.0]}, "a row that failed is left out"
    assert "| peer | 13.5 | 1.08 |" in kept["table"]
    assert kept["images"] == "random"
    assert kept["rounds"] == "2 of 9"


def test_a_row_that_fails_later_keeps_its_rounds(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(off_after=99, fails={"peer": 2})
    monkeypatch.setattr(benchmarks, "measure", machine.measure)
    monkeypatch.setattr(benchmarks, "runners", lambda name, data_dir, gpu: ROWS[:2])
    assert command("--workloads=tiny", "--repeats=3") == 0
    (path,) = results.iterdir()
    kept = json.loads(path.read_text())
    assert {name: len(runs) for name, runs in kept["runs"].items()} == {"ours": 3, "peer": 1}
    assert machine.num_runs == {"ours": 3, "peer": 2}
    assert kept["rounds"] == "3 of 3"


def test_a_row_of_ours_that_inherits_others_is_told_of(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Runner(name, False, ()) for name in ("ours", "first phase", "last phase")]
    monkeypatch.setattr(benchmarks, "runners", lambda name, data_dir, gpu: rows)
    machine = Machine(off_after=3, other_best={"first phase": 0, "last phase": 1})
    monkeypatch.setattr(benchmarks, "measure", machine.measure)
    assert command("--workloads=tiny", "--repeats=1") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "inherits other individuals" in line]
    assert [line.split(" inherits")[0] for line in told] == ["first phase"], "nobody inherits from the last phase"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--workloads=tiny,none"], "--workloads='none'"),
        (["--workloads=tiny", "--rows=ours,nobody"], "--rows='nobody'"),
        (["--repeats=0"], "--repeats=0"),
        (["now"], "argument='now'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    flags: list[str],
    named: str,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = Machine(off_after=0)
    monkeypatch.setattr(benchmarks, "measure", machine.measure)
    assert command(*flags) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not machine.started
    assert not list(results.iterdir())


def test_runners_of_this_project_are_told_where_the_images_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They would take random ones otherwise, while the peers' job holds those of the directory."""
    made = subprocess.CompletedProcess((), 0, stdout="pytorch /python\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: made)
    monkeypatch.chdir(tmp_path)
    for directory, told in (("", []), ("images", [f"--data_dir={tmp_path / 'images'}"])):
        rows = runners("deep", directory, gpu=False)
        own = [row for row in rows if not row.peer]
        assert len(own) == 3 and len(rows) == 6
        assert all([part for part in row.command if "--data_dir" in part] == told for row in own)
