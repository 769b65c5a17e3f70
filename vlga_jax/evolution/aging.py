"""Regularized (aging) evolution: a tournament chooses the parent, the oldest dies.

Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search" (arXiv 1802.01548), algorithm 1, over
networks of a fixed number of convolutions instead of cells; a mutation redraws one gene.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.checks import InputError, knob
from vlga_jax.evolution.operators import operator
from vlga_jax.evolution.strategy import Champion, Place, Proposal, SingleChampion, fitter
from vlga_jax.evolution.variation import mutate
from vlga_jax.genome.fixed_length import FixedLength
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import Array, Float, Int, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How it evolves.

    Attributes:
      strategy: aging.
      num_convolutions: of every network.
      population_size: P of the paper.
      sample_size: S of the paper: who takes part in a tournament, drawn with replacement.
      num_children: trained between two changes of the population; 1 is the paper's algorithm on one worker.
      num_cycles: of `num_children` each, after the initial population.
    """

    strategy: str = knob(one_of=("aging",))
    num_convolutions: int = knob(at_least=2, at_most=100)
    population_size: int = knob(at_least=1, at_most=10_000)
    sample_size: int = knob(at_least=1)
    num_children: int = knob(at_least=1)
    num_cycles: int = knob(at_least=0)

    def __post_init__(self) -> None:
        if self.num_children > self.population_size:
            remedy = f"must be at most population_size={self.population_size}"
            raise InputError("config.search.num_children", self.num_children, remedy)

    @property
    def planned_phases(self) -> int:
        return 1

    @property
    def planned_generations(self) -> int:
        return 1 + self.num_cycles

    def make(self, space: SearchSpace) -> "Aging":
        return Aging(FixedLength(space, self.num_convolutions), self)


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search stands.

    Attributes:
      cycle: 0 for the initial population.
      rows: what is asked for, `[individuals, row]`.
      parents: of these, places in the population; -1 in the initial one.
      population, fitness: the living, the oldest first; `[living, row]` and `[living]`.
      best: of all so far.
    """

    cycle: int
    rows: np.ndarray
    parents: np.ndarray
    population: np.ndarray
    fitness: np.ndarray
    best: Champion | None = None


_mutate = operator()(mutate)


def tournament(key: PRNGKeyArray, fitness: Float[Array | np.ndarray, " living"], *, sample_size: int) -> Int[Array, ""]:
    """Returns the place of the fittest of a sample drawn with replacement; the first drawn among equals.

    Args:
      key: consumed.
      fitness: NaN counts as worst.
      sample_size: at least 1.

    Source:
      Real et al. 2019, algorithm 1.
    """
    sample = jax.random.randint(key, (sample_size,), 0, len(fitness))
    comparable = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    return sample[jnp.argmax(comparable[sample])]


@dataclasses.dataclass(frozen=True)
class Aging(SingleChampion):
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    genome: FixedLength
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> State:
        genome = self.genome
        rows = [genome.sample(stream(key, "initial", place)) for place in range(self.config.population_size)]
        none = np.zeros((0, len(genome.num_choices)), np.int32)
        return State(0, np.stack(rows), np.full(len(rows), -1), none, np.zeros(0))

    def ask(self, state: State) -> tuple[Proposal, ...]:
        return tuple(
            Proposal(
                Place(0, state.cycle, individual),
                self.genome.chromosome(row),
                "initial" if parent < 0 else "mutant",
                parent_a=None if parent < 0 else int(parent),
            )
            for individual, (row, parent) in enumerate(zip(state.rows, state.parents, strict=True))
        )

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        best = fitter(state.best, self.ask(state), fitness)
        population = np.concatenate([state.population, state.rows])[-self.config.population_size :]
        living = np.concatenate([state.fitness, np.asarray(fitness, float)])[-self.config.population_size :]
        cycle = state.cycle + 1
        keys = [stream(key, "cycle", cycle, child) for child in range(self.config.num_children)]
        places = [self._parent(child_key, living) for child_key in keys]
        children = [self._child(child_key, population[place]) for child_key, place in zip(keys, places, strict=True)]
        return State(cycle, np.stack(children), np.array(places), population, living, best)

    def done(self, state: State) -> bool:
        return state.cycle > self.config.num_cycles

    def _parent(self, key: PRNGKeyArray, fitness: np.ndarray) -> int:
        return int(
            tournament(stream(key, "parent"), np.asarray(fitness, np.float32), sample_size=self.config.sample_size)
        )

    def _child(self, key: PRNGKeyArray, parent: np.ndarray) -> np.ndarray:
        return np.asarray(_mutate(stream(key, "mutate"), parent, self.genome.num_choices, self.genome.free))
