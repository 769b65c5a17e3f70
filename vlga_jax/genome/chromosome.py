"""Chromosomes: immutable pytrees of gene indices, one row a block; and populations of them.

A chromosome grows by a row a phase (Xiao et al. 2020, section 3: variable length). Rows of earlier phases are inherited
and never change; `Population` therefore holds only the rows that evolve.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vlga_jax.genome.space import Choice, SearchSpace
from vlga_jax.shapes import Array, Int, PRNGKeyArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Chromosome:
    """A whole network's genes.

    Attributes:
      genes: `[blocks, genes]`, choice indices; gene g lies in [0, cardinality of g).
    """

    genes: Int[Array | np.ndarray, "blocks genes"]

    @property
    def num_blocks(self) -> int:
        return self.genes.shape[0]

    def extended(self, row: Int[Array | np.ndarray, " genes"]) -> "Chromosome":
        """Returns this chromosome with one more block."""
        return Chromosome(np.concatenate([np.asarray(self.genes), np.asarray(row)[None]]))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Population:
    """The evolving rows of one generation.

    Attributes:
      genes: int `[population, genes]`, choice indices; NumPy's or JAX's.
      fitness: float `[population]`, higher is better; NaN where not evaluated yet.
    """

    genes: Any
    fitness: Any


def sample_genes(
    key: PRNGKeyArray,
    num_choices: Int[Array | np.ndarray, " genes"],
    free: Array | np.ndarray,
    template: Int[Array | np.ndarray, " genes"],
) -> Int[Array, " genes"]:
    """Returns a row whose free genes are drawn uniformly and whose other genes are the template's.

    Args:
      key: consumed.
      num_choices: cardinalities, at least 1.
      free: bool `[genes]`.
      template: choice indices.
    """
    drawn = jax.random.randint(key, template.shape, 0, num_choices)
    return jax.numpy.where(free, drawn, template)


def to_values(space: SearchSpace, chromosome: Chromosome) -> list[dict[str, Choice]]:
    """Returns gene names to values, one mapping per block, fit for JSON."""
    return [space.to_values(row, block) for block, row in enumerate(np.asarray(chromosome.genes))]


def from_values(space: SearchSpace, blocks: Sequence[Mapping[str, Any]]) -> Chromosome:
    """Returns the chromosome of gene values, a mapping per block; inherited genes need only stand in the first.

    Raises:
      InputError: a gene is unknown, missing or outside the space.
    """
    rows: list[np.ndarray] = []
    for block, values in enumerate(blocks):
        inherited = {
            gene.name: blocks[0][gene.name] for gene in space.genes if gene.inherited and gene.name in blocks[0]
        }
        rows.append(space.to_indices({**inherited, **values}, block))
    return Chromosome(np.array(rows, np.int32).reshape(len(rows), space.num_genes))
