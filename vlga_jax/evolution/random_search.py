"""Random search: networks of random length, drawn uniformly, each trained for itself.

Xiao et al. 2020, section 4, compare with networks of 2 to 10 layers.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from vlga_jax.checks import InputError, knob
from vlga_jax.evolution.strategy import Champion, Place, Proposal, SingleChampion, fitter
from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.genome.fixed_length import FixedLength
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How many networks of which length.

    Attributes:
      strategy: random_search.
      population_size: networks asked for at a time.
      num_generations: how often.
      min_convolutions, max_convolutions: of a network, both included; every number is as likely.
    """

    strategy: str = knob(one_of=("random_search",))
    population_size: int = knob(at_least=1, at_most=10_000)
    num_generations: int = knob(at_least=1)
    min_convolutions: int = knob(at_least=2)
    max_convolutions: int = knob(at_least=2, at_most=100)

    def __post_init__(self) -> None:
        if self.max_convolutions < self.min_convolutions:
            remedy = f"must be at least min_convolutions={self.min_convolutions}"
            raise InputError("config.search.max_convolutions", self.max_convolutions, remedy)

    @property
    def planned_phases(self) -> int:
        return 1

    @property
    def planned_generations(self) -> int:
        return self.num_generations

    def make(self, space: SearchSpace) -> "RandomSearch":
        for length in range(self.min_convolutions, self.max_convolutions + 1):
            FixedLength(space, length)  # says what the space lacks before the first network is drawn
        return RandomSearch(space, self)


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search stands: the networks asked for, their generation, and the best of those before."""

    generation: int
    drawn: tuple[Chromosome, ...]
    best: Champion | None = None


@dataclasses.dataclass(frozen=True)
class RandomSearch(SingleChampion):
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    space: SearchSpace
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> State:
        return State(0, self._draw(key, 0))

    def ask(self, state: State) -> tuple[Proposal, ...]:
        return tuple(
            Proposal(Place(0, state.generation, individual), chromosome, "initial")
            for individual, chromosome in enumerate(state.drawn)
        )

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        best, generation = fitter(state.best, self.ask(state), fitness), state.generation + 1
        return State(generation, () if generation == self.config.num_generations else self._draw(key, generation), best)

    def done(self, state: State) -> bool:
        return state.generation == self.config.num_generations

    def _draw(self, key: PRNGKeyArray, generation: int) -> tuple[Chromosome, ...]:
        return tuple(
            draw(stream(key, "draw", generation, individual), self.space, self.config)
            for individual in range(self.config.population_size)
        )


def draw(key: PRNGKeyArray, space: SearchSpace, config: SearchConfig) -> Chromosome:
    """Returns a chromosome of random length and random genes; `key` is consumed."""
    key_length, key_genes = jax.random.split(key)
    lengths = np.arange(config.min_convolutions, config.max_convolutions + 1)
    genome = FixedLength(space, int(jax.random.choice(key_length, lengths)))
    return genome.chromosome(genome.sample(key_genes))
