"""What can evolve: the genes of a block, their choices, and which of them a phase may change.

The genes are those of Xiao et al. 2020 (arXiv 2006.12703), section 3, and of the course report; a dropout rate and the
stride of convolution a come on top, off by default. Genes are data: to add one, add a line to `_genes` and its choices
to `SpaceConfig`; `vlga_jax.network.decode` says what it means.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlga_jax.checks import InputError, knob

Choice = int | float | bool | str


@dataclasses.dataclass(frozen=True)
class SpaceConfig:
    """Choices of every gene, and what is fixed for the whole space.

    Attributes:
      activations: names of activation functions.
      channels: output channels of a convolution.
      kernels: side of a convolution's square kernel, pixels; odd.
      batch_norm: whether a convolution is followed by batch normalisation.
      include_pool, pool_types: whether a block pools after convolution a, and how.
      include_b: whether a block has a second convolution, convolution b.
      include_skip: whether a 1x1 convolution of a block's input is added to its output.
      dropout_rates: share of a block's outputs dropped in training; (0.0,) turns the gene off.
      strides: of convolution a, pixels; (1,) turns the gene off.
      first_block_has_b: whether the first block always has convolution b, as in the sources; else its gene decides.
      pool_stride: of the 2x2 pooling window, pixels; with 1 the image never shrinks.
      min_side: of a map, pixels: strides that would leave less are smaller or 1; 1 lets maps shrink to a pixel.
      head_pool: global pooling before the dense layer.
      whitening: whether the first block sees whitened patches of the images; see `vlga_jax.network.whitening`.
    """

    activations: tuple[str, ...] = knob(one_of=("relu", "elu", "leaky_relu", "tanh", "selu"))
    channels: tuple[int, ...] = knob(at_least=1, at_most=65_536)
    kernels: tuple[int, ...] = knob(at_least=1, at_most=255, odd=True)
    batch_norm: tuple[bool, ...] = knob()
    include_pool: tuple[bool, ...] = knob()
    pool_types: tuple[str, ...] = knob(one_of=("max", "average"))
    include_b: tuple[bool, ...] = knob()
    include_skip: tuple[bool, ...] = knob()
    dropout_rates: tuple[float, ...] = knob(at_least=0.0, at_most=0.9)
    strides: tuple[int, ...] = knob(at_least=1, at_most=4)
    first_block_has_b: bool = knob()
    pool_stride: int = knob(at_least=1, at_most=2)
    min_side: int = knob(at_least=1, at_most=65_536)
    head_pool: str = knob(one_of=("average", "max"))
    whitening: bool = knob()


@dataclasses.dataclass(frozen=True)
class Gene:
    """One gene of a block.

    Attributes:
      name: as in a chromosome's JSON.
      choices: its values; a chromosome holds an index into them.
      inherited: whether it is set in the first block and the same in all later ones.
      first_block: its value in the first block if it is fixed there, else None.
    """

    name: str
    choices: tuple[Choice, ...]
    inherited: bool = False
    first_block: Choice | None = None


def _genes(config: SpaceConfig) -> tuple[Gene, ...]:
    return (
        Gene("activation", config.activations, inherited=True),
        Gene("a_channels", config.channels),
        Gene("a_kernel", config.kernels),
        Gene("a_batch_norm", config.batch_norm),
        Gene("include_pool", config.include_pool),
        Gene("pool_type", config.pool_types),
        Gene("include_b", config.include_b, first_block=True if config.first_block_has_b else None),
        Gene("b_channels", config.channels),
        Gene("b_kernel", config.kernels),
        Gene("b_batch_norm", config.batch_norm),
        Gene("include_skip", config.include_skip),
        Gene("dropout_rate", config.dropout_rates),
        Gene("a_stride", config.strides),
    )


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The genes of a block, in the order in which a chromosome stores them."""

    genes: tuple[Gene, ...]

    @property
    def num_genes(self) -> int:
        return len(self.genes)

    @property
    def num_choices(self) -> np.ndarray:
        """Cardinality of each gene, int32 [genes]."""
        return np.array([len(gene.choices) for gene in self.genes], np.int32)

    def place(self, name: str) -> int:
        """Returns where a gene stands among the genes."""
        return next(place for place, gene in enumerate(self.genes) if gene.name == name)

    def free(self, phase: int) -> np.ndarray:
        """Returns which genes of its new block a phase may change, bool [genes]; single choices are not free."""
        fixed = [gene.first_block is not None if phase == 0 else gene.inherited for gene in self.genes]
        return ~np.array(fixed) & (self.num_choices > 1)

    def num_combinations(self, phase: int) -> int:
        """Returns how many different new blocks a phase can try."""
        return math.prod(int(n) for n in self.num_choices[self.free(phase)])

    def to_values(self, indices: np.ndarray, block: int) -> dict[str, Choice]:
        """Returns gene names to values.

        Args:
          indices: int [genes], each within its gene's choices.
          block: the block's place in its network, from 0.
        """
        return {
            gene.name: gene.first_block if block == 0 and gene.first_block is not None else gene.choices[int(index)]
            for gene, index in zip(self.genes, indices, strict=True)
        }

    def to_indices(self, values: Mapping[str, Any], block: int) -> np.ndarray:
        """Returns int32 [genes], the inverse of `to_values`.

        Genes with a single choice, or fixed in the first block, need not be named.

        Raises:
          InputError: a gene is unknown or missing, or its value is not among the choices.
        """
        known = {gene.name for gene in self.genes}
        for name in values:
            if name not in known:
                raise InputError(f"chromosome.{name}", values[name], f"unknown gene; use {', '.join(sorted(known))}")
        return np.array([self._index_of(gene, values, block) for gene in self.genes], np.int32)

    def _index_of(self, gene: Gene, values: Mapping[str, Any], block: int) -> int:
        fixed = gene.first_block if block == 0 else None
        if gene.name not in values:
            if fixed is None and len(gene.choices) > 1:
                raise InputError(f"chromosome.{gene.name}", None, f"is missing; give one of {gene.choices}")
            return 0
        allowed = gene.choices if fixed is None else (fixed,)
        value = values[gene.name]
        for index, choice in enumerate(allowed):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return index
        raise InputError(f"chromosome.{gene.name}", value, f"must be one of {allowed}")


def make_search_space(config: SpaceConfig) -> SearchSpace:
    """Returns the search space of a configuration."""
    return SearchSpace(_genes(config))
