"""Hill climbing by single-gene mutation: a sanity floor for every other strategy.

One network; its mutants are tried, and the best of them takes its place if it is fitter.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vlga_jax.checks import knob
from vlga_jax.evolution.operators import operator
from vlga_jax.evolution.strategy import Champion, Place, Proposal, SingleChampion, fitter
from vlga_jax.evolution.variation import mutate
from vlga_jax.genome.fixed_length import FixedLength
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How it climbs.

    Attributes:
      strategy: hill_climbing.
      num_convolutions: of every network.
      num_neighbours: mutants of the fittest so far that are tried before the next step; may repeat one another.
      num_steps: after the first network.
    """

    strategy: str = knob(one_of=("hill_climbing",))
    num_convolutions: int = knob(at_least=2, at_most=100)
    num_neighbours: int = knob(at_least=1, at_most=10_000)
    num_steps: int = knob(at_least=0)

    @property
    def planned_phases(self) -> int:
        return 1

    @property
    def planned_generations(self) -> int:
        return 1 + self.num_steps

    @property
    def population_size(self) -> int:
        return self.num_neighbours

    def make(self, space: SearchSpace) -> "HillClimbing":
        return HillClimbing(FixedLength(space, self.num_convolutions), self)


_mutate = operator()(mutate)


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search stands: what is asked for, `[individuals, row]`; where it climbs from, `[row]`; and the best."""

    step: int
    rows: np.ndarray
    summit: np.ndarray
    best: Champion | None = None


@dataclasses.dataclass(frozen=True)
class HillClimbing(SingleChampion):
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    genome: FixedLength
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> State:
        row = self.genome.sample(stream(key, "initial"))
        return State(0, row[None], row)

    def ask(self, state: State) -> tuple[Proposal, ...]:
        origin = "mutant" if state.step else "initial"
        return tuple(
            Proposal(Place(0, state.step, individual), self.genome.chromosome(row), origin)
            for individual, row in enumerate(state.rows)
        )

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        best = fitter(state.best, self.ask(state), fitness)
        summit = state.summit if best is state.best else state.rows[best.place.individual]
        step = state.step + 1
        rows = [
            _mutate(stream(key, "step", step, neighbour), summit, self.genome.num_choices, self.genome.free)
            for neighbour in range(self.config.num_neighbours)
        ]
        return State(step, np.stack(rows), summit, best)

    def done(self, state: State) -> bool:
        return state.step > self.config.num_steps
