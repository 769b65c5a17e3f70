"""One small run of digits, undisturbed, for the tests of this wing to compare with; searches without training."""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments import default
from tests.run.searching import Judge, JudgingExecutor, Outcome, Watcher, by_digest, paper_laboratory
from vlga_jax.evolution.vlga import VLGA
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.generation import Generations
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.run import pipeline
from vlga_jax.run.laboratory import RunConfig, parse_config
from vlga_jax.run.report.figures import write_figures
from vlga_jax.run.search import Search
from vlga_jax.training import program_cache, programs

ROOT = Path(__file__).resolve().parents[2]
TINY: Mapping[str, Any] = {
    "search.population_size": 4,
    "search.num_generations": 2,
    "search.num_phases": 2,
    "search.mutation_rate": 0.5,
    "space.activations": ("relu",),
    "space.channels": (8,),
    "space.kernels": (1, 3),
    "space.batch_norm": (True,),
    "space.include_skip": (False,),
    "fitness.epochs": 1,
    "fitness.batch_size": 32,
    "fitness.learning_rate": 0.01,
    "final.epochs": 2,
    "final.batch_size": 32,
    "data.name": "digits",
    "data.num_train_examples": 400,
    "data.validation_fraction": 0.2,
    "tracking.progress": "none",
}
"""Two phases of two generations of four, one epoch each; differences from experiments/default.py."""

MakeConfig = Callable[..., RunConfig]
StartMain = Callable[..., subprocess.Popen[bytes]]
OutcomeOf = Callable[[Path], dict[str, bytes]]
LedgerRows = Callable[[Path], dict[str, tuple[Any, ...]]]


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run of `python main.py` that nothing disturbed.

    Attributes:
      workdir: what it left; must not be written to.
      seconds: what it took, start of Python included.
    """

    workdir: Path
    seconds: float


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """Builds the small configuration, with fields changed: make_config({"search.num_phases": 3})."""

    def make(changes: Mapping[str, Any] | None = None) -> RunConfig:
        config = default.get_config()
        for name, value in {**TINY, **(changes or {})}.items():
            node = config
            *path, leaf = name.split(".")
            for step in path:
                node = node[step]
            node[leaf] = value
        return parse_config(config.to_dict())

    return make


@pytest.fixture(scope="session")
def start_main() -> StartMain:
    """Starts `python main.py`, or another program of the same flags, with the small configuration."""

    def start(workdir: Path, cache_home: Path, *program: str) -> subprocess.Popen[bytes]:
        flags = []
        for name, value in TINY.items():
            text = ",".join(map(str, value)) + "," * (len(value) == 1) if isinstance(value, tuple) else value
            flags.append(f"--config.{name}={text}")
        workdir.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home), "JAX_PLATFORMS": "cpu"}
        with open(workdir.with_name(f"{workdir.name}.log"), "ab") as log:
            return subprocess.Popen(
                [sys.executable, *(program or ("main.py",)), "--config=experiments/default.py", *flags]
                + [f"--workdir={workdir}"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    return start


@pytest.fixture(scope="session")
def run_undisturbed(shared_dir: Path, cache_home: Path, start_main: StartMain) -> Callable[[str], FinishedRun]:
    """Runs `python main.py` in a directory of this name, unless another process of the session has."""

    def run(name: str) -> FinishedRun:
        workdir, clock = shared_dir / name, shared_dir / f"{name}.json"
        with open(shared_dir / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not clock.exists():
                started = time.perf_counter()
                returned = start_main(workdir, cache_home).wait(timeout=300)
                assert returned == 0, workdir.with_name(f"{name}.log").read_text()
                clock.write_text(json.dumps(time.perf_counter() - started))
        return FinishedRun(workdir, json.loads(clock.read_text()))

    return run


@pytest.fixture(scope="session")
def finished(run_undisturbed: Callable[[str], FinishedRun]) -> FinishedRun:
    """The undisturbed run."""
    return run_undisturbed("undisturbed")


@pytest.fixture(scope="session")
def twin(finished: FinishedRun, run_undisturbed: Callable[[str], FinishedRun]) -> FinishedRun:
    """The same command again in another directory; it had nothing to compile."""
    return run_undisturbed("undisturbed_twin")


@pytest.fixture
def copied(finished: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the finished run, to go on with."""
    return Path(shutil.copytree(finished.workdir, tmp_path / "copied"))


@pytest.fixture(scope="session")
def outcome_of() -> OutcomeOf:
    """Reads what must not depend on anything but the configuration: name of a file in a workdir -> its bytes."""

    def read(workdir: Path) -> dict[str, bytes]:
        files = [workdir / "history.csv", workdir / "result.json", *sorted((workdir / "best").rglob("*"))]
        return {str(path.relative_to(workdir)): path.read_bytes() for path in files}

    return read


@pytest.fixture(scope="session")
def ledger_rows() -> LedgerRows:
    """Reads all rows of a workdir's evaluations from a copy, so that the ledger stays as a kill left it."""

    def read(workdir: Path) -> dict[str, tuple[Any, ...]]:
        with tempfile.TemporaryDirectory() as copy:
            for path in workdir.glob("ledger.sqlite*"):
                shutil.copy(path, copy)
            with contextlib.closing(sqlite3.connect(Path(copy) / "ledger.sqlite")) as database:
                if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'evaluations'").fetchone():
                    return {}
                return {row[0]: row for row in database.execute("SELECT * FROM evaluations")}

    return read


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares runs of this process their figures, half a second each, unless a test uses `drawn`."""
    monkeypatch.setattr(pipeline, "write_figures", lambda rows, directory: [])


@pytest.fixture
def drawn(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets runs draw their figures."""
    monkeypatch.setattr(pipeline, "write_figures", write_figures)


@pytest.fixture(autouse=True, scope="module")
def shared_programs() -> Iterator[None]:
    """Builds equal programs once for all runs of a file: a third of their time. `finished` shares none."""
    with pytest.MonkeyPatch.context() as patch:
        for build in (programs.build_training, programs.build_evaluation):
            built_once = functools.cache(build)
            for module in (programs, program_cache):
                patch.setattr(module, build.__name__, built_once)
        yield


@dataclasses.dataclass
class Interruption:
    """Counts the evaluations that are recorded; one of them, counted from 1, is interrupted before it is."""

    count: int = 0
    at: int = 0


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Interruption:
    """Returns what says when Ctrl-C comes; never, at first."""
    interruption, record = Interruption(), Ledger.record

    def recorded(*arguments: Any) -> None:
        interruption.count += 1
        if interruption.count == interruption.at:
            raise KeyboardInterrupt
        record(*arguments)

    monkeypatch.setattr(Ledger, "record", recorded)
    return interruption


@pytest.fixture
def search(tmp_path: Path, make_config: Any) -> Callable[..., Outcome]:
    """Runs a whole search in one directory: changes of the configuration, and a judge."""

    def run(changes: dict[str, Any] | None = None, judge: Judge = by_digest, seed: int = 0) -> Outcome:
        config = make_config(changes)
        lab = paper_laboratory(dataclasses.replace(config, seed=seed))
        executor, listener = JudgingExecutor(judge), Watcher(tmp_path / "history.csv")
        with (
            contextlib.closing(Ledger(tmp_path / "ledger.sqlite", "here")) as ledger,
            contextlib.closing(WeightStore(tmp_path / "weights")) as weights,
        ):
            strategy = VLGA(lab.space, config.search)
            evaluator = Evaluator(ledger, weights, executor)
            generations = Generations(evaluator, config.stopping, config.budget, config.fitness.epochs)
            search = Search(strategy, lab.space, lab.request, generations, weights, listener, tmp_path / "history.csv")
            result = search.run(seed)
            assert {row.network: row.fitness for row in result.rows} == {
                digest: evaluation.fitness for digest, evaluation in result.evaluations.items()
            }
        kept = {path.name for path in (tmp_path / "weights").iterdir()}
        return Outcome(result, executor, listener, kept)

    return run
