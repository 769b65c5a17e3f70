"""One small run of digits, undisturbed, for the tests of this wing to compare with."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments import default
from vlga_jax.checks import parse
from vlga_jax.run.pipeline import RunConfig

ROOT = Path(__file__).resolve().parents[2]
TINY: Mapping[str, Any] = {
    "search.population_size": 4,
    "search.num_generations": 2,
    "search.num_phases": 2,
    "search.mutation_rate": 0.5,
    "space.channels": (8,),
    "space.kernels": (1, 3),
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


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run of `python main.py` that nothing disturbed; its directory must not be written to.

    Attributes:
      workdir: what it left.
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
        return parse(RunConfig, config.to_dict())

    return make


@pytest.fixture(scope="session")
def start_main() -> Callable[[Path, Path], subprocess.Popen[bytes]]:
    """Starts `python main.py` with the small configuration: (workdir, cache home) -> process."""

    def start(workdir: Path, cache_home: Path) -> subprocess.Popen[bytes]:
        flags = []
        for name, value in TINY.items():
            text = ",".join(map(str, value)) + "," * (len(value) == 1) if isinstance(value, tuple) else value
            flags.append(f"--config.{name}={text}")
        workdir.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home), "JAX_PLATFORMS": "cpu"}
        with open(workdir.with_name(f"{workdir.name}.log"), "ab") as log:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "main.py"), "--config=experiments/default.py", *flags]
                + [f"--workdir={workdir}"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    return start


@pytest.fixture(scope="session")
def finished(
    shared_dir: Path, cache_home: Path, start_main: Callable[[Path, Path], subprocess.Popen[bytes]]
) -> FinishedRun:
    """The undisturbed run, made by whichever process of the session asks first."""
    workdir, clock = shared_dir / "undisturbed", shared_dir / "undisturbed.json"
    with open(shared_dir / "undisturbed.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not clock.exists():
            start_main(workdir, cache_home).wait(timeout=300)  # compiles
            started = time.perf_counter()
            process = start_main(workdir.with_name("undisturbed_again"), cache_home)
            assert process.wait(timeout=300) == 0, workdir.with_name("undisturbed_again.log").read_text()
            clock.write_text(json.dumps(time.perf_counter() - started))
    return FinishedRun(workdir, json.loads(clock.read_text()))
