"""The classical genetic algorithm: networks of a fixed number of convolutions, each trained for itself.

Survivors, mutants and children are those of `vlga_jax.evolution.breeding`, of whole networks instead of one new block.
Xiao et al. 2020, section 4, compare with three convolutions.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from vlga_jax.checks import knob
from vlga_jax.evolution.breeding import NO_PARENT, ORIGINS, BreedingConfig, breed, known_fitness, parents_of
from vlga_jax.evolution.strategy import Champion, Place, Proposal, SingleChampion, fitter
from vlga_jax.genome.chromosome import Population
from vlga_jax.genome.fixed_length import FixedLength
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class SearchConfig(BreedingConfig):
    """How it evolves.

    Attributes:
      strategy: classical.
      num_convolutions: of every network.
      num_generations: the initial population counted.
    """

    strategy: str = knob(one_of=("classical",))
    num_convolutions: int = knob(at_least=2, at_most=100)
    num_generations: int = knob(at_least=1)

    @property
    def planned_phases(self) -> int:
        return 1

    @property
    def planned_generations(self) -> int:
        return self.num_generations

    def make(self, space: SearchSpace) -> "Classical":
        return Classical(FixedLength(space, self.num_convolutions), self)


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search stands.

    Attributes:
      generation: of `population`, from 0.
      population: rows of whole networks, with the fitness known before they are evaluated.
      origin: `[population]`, places in `ORIGINS`.
      parents: `[population, 2]`, places in the generation before.
      best: of all generations before.
    """

    generation: int
    population: Population
    origin: np.ndarray
    parents: np.ndarray
    best: Champion | None = None


@dataclasses.dataclass(frozen=True)
class Classical(SingleChampion):
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    genome: FixedLength
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> State:
        size = self.config.population_size
        rows = np.stack([self.genome.sample(stream(key, "initial", place)) for place in range(size)])
        return State(
            0, Population(rows, np.full(size, np.nan)), np.zeros(size, np.int32), np.full((size, 2), NO_PARENT)
        )

    def ask(self, state: State) -> tuple[Proposal, ...]:
        proposals = []
        for individual, (row, known) in enumerate(zip(state.population.genes, state.population.fitness, strict=True)):
            mother, father = parents_of(state.parents[individual])
            proposals.append(
                Proposal(
                    place=Place(0, state.generation, individual),
                    chromosome=self.genome.chromosome(row),
                    origin=ORIGINS[state.origin[individual]],
                    parent_a=mother,
                    parent_b=father,
                    fitness=None if math.isnan(known) else float(known),
                )
            )
        return tuple(proposals)

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        best = fitter(state.best, self.ask(state), fitness)
        offspring = jax.device_get(
            breed(
                stream(key, "breed", state.generation),
                Population(state.population.genes, np.asarray(fitness, np.float32)),
                self.genome.num_choices,
                self.genome.free,
                config=self.config,
            )
        )
        return State(
            state.generation + 1,
            Population(offspring.genes, known_fitness(offspring, fitness)),
            offspring.origin,
            offspring.parents,
            best,
        )

    def done(self, state: State) -> bool:
        return state.generation == self.config.num_generations
