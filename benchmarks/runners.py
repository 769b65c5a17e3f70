"""Who is measured: each a command that reads a job and writes what every network took."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

_HERE = Path(__file__).parent
_PEERS = _HERE / "peers"
# What vlga_jax.training.memory does for this project, a user can do for any other.
_KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_ARENA_MAX": "1"}


@dataclasses.dataclass(frozen=True)
class Runner:
    """One row of the table.

    Attributes:
      name: as in the table.
      peer: whether it reads JOB.json (`peers/README.md`); else it is this project.
      command: what runs, without the flags that name job and output.
      fresh_cache: whether it starts with an empty compilation cache; else with what the row before it left.
      environment: variables of its own.
    """

    name: str
    peer: bool
    command: tuple[str, ...]
    fresh_cache: bool = True
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def runners(workload: str, data_dir: str, *, gpu: bool) -> list[Runner]:
    """Returns this project's rows, then those of the peers whose environments can be made.

    Args:
      workload: its name.
      data_dir: where this project's rows find their images, as `benchmarks.evaluate` takes it; a job names the peers'.
      gpu: whether there is one.
    """
    images = (f"--data_dir={Path(data_dir).absolute()}",) if data_dir else ()
    ours = (sys.executable, "-m", "benchmarks.evaluate", f"--workload={workload}", "--cache=on", *images)
    plain = (*ours, "--plain", "--precision=float32")
    rows = [
        Runner("vlga_jax", False, ours),
        Runner("vlga_jax, warm cache", False, ours, fresh_cache=False),
        Runner("vlga_jax, plain", False, plain),
    ]
    made = subprocess.run(
        ["sh", str(_PEERS / "environments.sh"), "pytorch", "tensorflow"], stdout=subprocess.PIPE, text=True, check=True
    )
    interpreters = dict(line.split(" ", 1) for line in made.stdout.splitlines())
    if python := interpreters.get("pytorch"):
        script = str(_PEERS / "pytorch.py")
        variants = ["bf16", "eager", "compile"] if gpu else ["eager", "compile"]
        rows += [Runner(f"PyTorch {name}", True, (python, script, f"--variant={name}")) for name in variants]
        if not gpu:
            kept = "PyTorch eager, memory kept"
            rows.append(Runner(kept, True, (python, script, "--variant=eager"), environment=_KEEP_FREED_MEMORY))
    if python := interpreters.get("tensorflow"):
        rows.append(Runner("Keras / TensorFlow", True, (python, str(_PEERS / "keras_tf.py"))))
    return rows


def measure(runner: Runner, job: Path, chromosomes: Path, cache: Path) -> dict[str, Any]:
    """Returns what one run of a row wrote.

    Args:
      runner: the row.
      job: for peers.
      chromosomes: for this project.
      cache: directory of compiled programs, the runner's own; emptied by the caller where it should be.

    Raises:
      RuntimeError: the run failed, or did not use the GPU; with what it said.
    """
    out = cache.parent / f"{cache.name}.json"
    source = f"--job={job}" if runner.peer else f"--chromosomes={chromosomes}"
    environment: Mapping[str, str] = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **runner.environment,
    }
    started = time.perf_counter()
    done = subprocess.run(
        [*runner.command, source, f"--json={out}"],
        env=environment,
        cwd=_HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{runner.name} failed: {done.stdout[-2000:]}")
    measured = {**json.loads(out.read_text()), "process_seconds": time.perf_counter() - started}
    if runner.peer and machine()["gpu"] and measured["device"] == "cpu":
        raise RuntimeError(
            f"{runner.name} ran on the CPU; name an interpreter with CUDA, see benchmarks/peers/README.md"
        )
    return measured
