"""Measures this project against its peers, prints one table a workload and keeps what was measured.

    python -m benchmarks --workloads=shallow,deep --repeats=3

All rows of a table come from this one run on this one machine, alternating. Two hours on two cores.
"""

import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.images import choose_images
from benchmarks.machine import machine, versions
from benchmarks.runners import measure, runners
from benchmarks.table import table
from benchmarks.workloads import WORKLOADS, Workload, complete, draw
from vlga_jax.checks import parse
from vlga_jax.genome.space import SpaceConfig, make_search_space
from vlga_jax.training.data import DataConfig, load_training_data

_FLAGS = flags.FLAGS
flags.DEFINE_list("workloads", ["shallow", "deep"], "Which of shallow, deep, full.")
flags.DEFINE_integer("repeats", 3, "Rounds; each runs every row once.", lower_bound=1)
flags.DEFINE_integer("chromosome_seed", 0, "Of the networks that are drawn.", lower_bound=0)
flags.DEFINE_list("rows", [], "Only rows whose name contains one of these; the first row always runs.")
flags.DEFINE_string("data_dir", "", "As in benchmarks.evaluate.")

_RESULTS = Path(__file__).parent / "results"


def main(argv: list[str]) -> None:
    """Runs every workload asked for."""
    del argv
    for name in _FLAGS.workloads:
        if name not in WORKLOADS:
            sys.exit(f"error: --workloads={name}: must be one of {', '.join(WORKLOADS)}")
    for name in _FLAGS.workloads:
        result = run(WORKLOADS[name])
        path = _RESULTS / f"{name}-{'gpu' if machine()['gpu'] else 'cpu'}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(
            f"\n{name}, written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}\n"
        )
        print(result["table"], flush=True)


def run(workload: Workload) -> dict[str, Any]:
    """Returns a workload's measurements: every run of every row, and the table."""
    config = workload.config()
    images = choose_images(config, _FLAGS.data_dir)
    space = make_search_space(parse(SpaceConfig, config.space.to_dict()))
    phases = draw(workload, space, _FLAGS.chromosome_seed)
    chosen = [
        row
        for place, row in enumerate(runners(workload.name, gpu=bool(machine()["gpu"])))
        if place == 0 or not _FLAGS.rows or any(part in row.name for part in _FLAGS.rows)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        chromosomes, job = directory / "chromosomes.json", directory / "job.json"
        chromosomes.write_text(json.dumps(phases))
        data = load_training_data(parse(DataConfig, config.data.to_dict()))
        arrays = ("train_images", "train_labels", "validation_images", "validation_labels")
        np.savez(directory / "images.npz", **{name: getattr(data, name) for name in arrays})
        runs: dict[str, list[dict[str, Any]]] = {row.name: [] for row in chosen}
        for round_ in range(_FLAGS.repeats):
            for row in chosen:
                cache = directory / ("peer" if row.peer else "plain" if "plain" in row.name else "ours")
                if row.fresh_cache:
                    shutil.rmtree(cache, ignore_errors=True)
                    cache.mkdir()
                measured = measure(row, job, chromosomes, cache)
                runs[row.name].append(measured)
                print(f"{workload.name} round {round_ + 1}: {row.name} {measured['total_seconds']:.1f} s", flush=True)
                if not job.exists():  # all inherit what this project's first run inherited, so that work is equal
                    _write_job(job, workload, complete(phases, space), _heirs(measured), directory / "images.npz")
    rate = _matrix_rate()
    flops = sum(individual["train_flops"] for individual in next(iter(runs.values()))[0]["individuals"])
    return {
        "workload": workload.name,
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "images": images,
        "machine": machine(),
        "matrix_gflops": round(rate / 1e9, 1),
        "versions": versions(),
        "phases": phases,
        "table": table(runs, flops, rate),
        "runs": runs,
    }


def _matrix_rate() -> float:
    """In a process of its own, so that none of the runs shares the machine with this one's threads."""
    command = [sys.executable, "-m", "benchmarks.matrix_rate"]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _heirs(measured: dict[str, Any]) -> list[int]:
    """The best individual of each phase, the first among equals."""
    phases: dict[int, list[float]] = {}
    for individual in measured["individuals"]:
        phases.setdefault(individual["phase"], []).append(individual["fitness"])
    return [int(np.argmax(phases[phase])) for phase in sorted(phases)]


def _write_job(path: Path, workload: Workload, phases: Any, heirs: list[int], images: Path) -> None:
    recipe = workload.config().fitness
    job = {
        "phases": phases,
        "heirs": heirs,
        "pool_stride": workload.pool_stride,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "images": str(images),
        "seed": 0,
    }
    path.write_text(json.dumps(job))


if __name__ == "__main__":
    app.run(main)
