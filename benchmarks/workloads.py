"""The work that everyone does: which images, which networks, how they are trained.

A workload's chromosomes are a list of phases, each a list of mappings from gene name to value; the best individual of a
phase is inherited, frozen, by all of the next.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import cifar10_report
from vlga_jax.checks import InputError
from vlga_jax.genome.space import SearchSpace

Phases = list[list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row of work; all train with Adam 1e-3, batch 256, three epochs, inputs / 255, no augmentation.

    Attributes:
      name: as on the command line.
      num_phases, population_size: of the chromosomes that `draw` makes.
      channels, kernels: choices of every convolution.
      pool_stride: of the 2x2 pools, pixels.
      num_train, num_validation: images.
      equal_blocks: whether all phases after the first have the same new blocks, and all blocks give out equally many
        channels, so that phases differ in depth only.
      rivals: parts of the names of the peers that it is for; empty is all.
    """

    name: str
    num_phases: int
    population_size: int
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    pool_stride: int
    num_train: int
    num_validation: int
    equal_blocks: bool = False
    rivals: tuple[str, ...] = ()

    def config(self) -> ConfigDict:
        """Returns the report's experiment with this workload's space and data."""
        config = cifar10_report.get_config()
        config.space.channels, config.space.kernels = self.channels, self.kernels
        config.space.pool_stride = self.pool_stride
        config.search.num_phases, config.search.population_size = self.num_phases, self.population_size
        config.search.num_generations = 1
        config.data.num_train_examples = self.num_train + self.num_validation
        config.data.validation_fraction = self.num_validation / (self.num_train + self.num_validation)
        return config


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("shallow", 3, 6, (8, 16, 32), (1, 3, 5), 2, 5_000, 1_000),
        Workload("deep", 8, 4, (8, 16, 32), (1, 3, 5), 1, 2_000, 1_000),
        Workload("flat", 8, 2, (8, 16, 32), (1, 3, 5), 1, 2_000, 1_000, equal_blocks=True, rivals=("eager", "warm")),
        Workload("full", 5, 10, (8, 16, 32, 64, 128, 256, 512), (1, 3, 5, 7, 9), 1, 45_000, 5_000),
    )
}


def draw(workload: Workload, space: SearchSpace, seed: int) -> Phases:
    """Returns chromosomes drawn uniformly from a workload's space; inherited genes stand in the first phase only.

    Args:
      workload: how many phases and individuals.
      space: its genes.
      seed: of the draw.
    """
    random = np.random.default_rng(seed)
    same = workload.channels[len(workload.channels) // 2]
    inherited = {gene.name for gene in space.genes if gene.inherited}
    phases: Phases = []
    for phase in range(workload.num_phases):
        rows = random.integers(space.num_choices, size=(workload.population_size, space.num_genes))
        values = [space.to_values(row, phase) for row in rows]
        if workload.equal_blocks:
            values = [{**row, "a_channels": same, "b_channels": same} for row in values]
        phases.append(
            [{name: value for name, value in row.items() if phase == 0 or name not in inherited} for row in values]
        )
    return [*phases[:1], *[phases[1]] * (len(phases) - 1)] if workload.equal_blocks else phases


def read_phases(path: Path) -> Phases:
    """Returns the chromosomes of a file; genes that mean nothing, and the activation after the first phase, may lack.

    Raises:
      InputError: the file cannot be read or is no list of phases.
    """
    try:
        phases = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError("--chromosomes", str(path), f"cannot be read as JSON: {error}") from error
    rows = [row for phase in phases if isinstance(phase, list) for row in phase] if isinstance(phases, list) else []
    if not rows or not all(isinstance(phase, list) and phase for phase in phases):
        raise InputError("--chromosomes", str(path), "must hold a list of phases, each a list of gene mappings")
    if not all(isinstance(row, dict) for row in rows):
        raise InputError("--chromosomes", str(path), "each individual must be a mapping from gene name to value")
    return phases


def complete(phases: Phases, space: SearchSpace) -> Phases:
    """Returns the phases with every gene named: those that mean nothing where they stand get their first choice."""

    def completed(genes: dict[str, Any], phase: int) -> dict[str, Any]:
        unused = {gene.name: gene.choices[0] for gene in space.genes if phase > 0 and gene.inherited}
        forced = {gene.name: gene.first_block for gene in space.genes if phase == 0 and gene.first_block is not None}
        values = {**genes, **forced, **unused}
        silent = [] if values.get("include_b") is True else ["b_channels", "b_kernel", "b_batch_norm"]
        silent += [] if values.get("include_pool") is True else ["pool_type"]
        return {**{gene.name: gene.choices[0] for gene in space.genes if gene.name in silent}, **values}

    return [[completed(genes, phase) for genes in individuals] for phase, individuals in enumerate(phases)]
