"""What a peer is told to do: JOB.json, see `peers/README.md`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import Phases, Workload
from vlga_jax.training.data import TrainingData


def champions(individuals: Sequence[Mapping[str, Any]]) -> list[int]:
    """Returns the place of the best individual of each phase, the first among equals.

    Args:
      individuals: what `benchmarks.evaluate` wrote of each: `phase` and `fitness` among others.
    """
    phases: dict[int, list[float]] = {}
    for individual in individuals:
        phases.setdefault(individual["phase"], []).append(individual["fitness"])
    return [int(np.argmax(phases[phase])) for phase in sorted(phases)]


def write_images(path: Path, data: TrainingData, **others: np.ndarray) -> None:
    """Writes the images that a job names, and other arrays beside them."""
    names = ("train_images", "train_labels", "validation_images", "validation_labels")
    arrays: dict[str, Any] = {**{name: getattr(data, name) for name in names}, **others}
    np.savez(path, **arrays)


def write_job(path: Path, workload: Workload, phases: Phases, inherited: Sequence[int], images: Path) -> None:
    """Writes a job.

    Args:
      path: of the file.
      workload: for its recipe.
      phases: of complete chromosomes.
      inherited: the place of each phase's champion, see `champions`.
      images: file that `write_images` wrote.
    """
    recipe = workload.config().fitness
    job = {
        "phases": phases,
        "champions": list(inherited),
        "pool_stride": workload.pool_stride,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "images": str(images),
        "seed": 0,
    }
    path.write_text(json.dumps(job))
