"""Chromosomes with a fixed number of convolutions, as one row of genes: what strategies without growth evolve.

Blocks hold two convolutions each, the last one a single convolution where the number is odd.
"""

import dataclasses
import functools

import numpy as np

from vlga_jax.checks import InputError
from vlga_jax.genome.chromosome import Chromosome, sample_genes
from vlga_jax.genome.space import SearchSpace
from vlga_jax.shapes import Array, Int, PRNGKeyArray

_SECOND = "include_b"


@dataclasses.dataclass(frozen=True)
class FixedLength:
    """The chromosomes of a space with this many convolutions, at least 2; `row` is `[blocks * genes]`, choice indices.

    Raises:
      InputError: the space does not let a block have as many convolutions as this takes.
    """

    space: SearchSpace
    num_convolutions: int

    def __post_init__(self) -> None:
        if self.num_convolutions < 2:
            raise InputError("num_convolutions", self.num_convolutions, "must be at least 2: the first block has two")
        for block in self._deciding_blocks:
            self._second_choice(block)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_convolutions // 2)

    @property
    def num_choices(self) -> Int[np.ndarray, " row"]:
        """Cardinality of each gene of a row."""
        return np.tile(self.space.num_choices, self.num_blocks)

    @functools.cached_property
    def free(self) -> np.ndarray:
        """Which genes of a row may change, bool `[row]`: not those of the length, and inherited ones only once.

        Those of a second convolution that the last block does not have may, though they decide nothing.
        """
        free = np.stack([self.space.free(min(block, 1)) for block in range(self.num_blocks)])
        free[:, self.space.place(_SECOND)] = False
        return free.reshape(-1)

    def sample(self, key: PRNGKeyArray) -> Int[np.ndarray, " row"]:
        """Returns a row drawn uniformly; `key` is consumed."""
        return np.asarray(sample_genes(key, self.num_choices, self.free, self._template))

    def chromosome(self, row: Int[Array | np.ndarray, " row"]) -> Chromosome:
        """Returns the chromosome of a row, the first block's inherited genes in every block."""
        genes = np.array(row, np.int32).reshape(self.num_blocks, -1)
        for place, gene in enumerate(self.space.genes):
            if gene.inherited:
                genes[:, place] = genes[0, place]
        return Chromosome(genes)

    @property
    def _deciding_blocks(self) -> range:
        """Blocks whose gene decides whether they have a second convolution: the first may have it always."""
        fixed = self.space.genes[self.space.place(_SECOND)].first_block is not None
        return range(1 if fixed else 0, self.num_blocks)

    @functools.cached_property
    def _template(self) -> np.ndarray:
        template = np.zeros((self.num_blocks, self.space.num_genes), np.int32)
        for block in self._deciding_blocks:
            template[block, self.space.place(_SECOND)] = self._second_choice(block)
        return template.reshape(-1)

    def _second_choice(self, block: int) -> int:
        wanted = block < self.num_blocks - 1 or self.num_convolutions % 2 == 0
        choices = self.space.genes[self.space.place(_SECOND)].choices
        if wanted not in choices:
            remedy = f"must hold {str(wanted).lower()} for networks of {self.num_convolutions} convolutions"
            raise InputError("config.space.include_b", choices, remedy)
        return choices.index(wanted)
