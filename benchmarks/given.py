"""A strategy that proposes exactly the individuals of a list: one generation a phase."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads import Phases
from vlga_jax.checks import InputError
from vlga_jax.evolution.strategy import Champion, Place, Proposal, fitter
from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.genome.space import SearchSpace
from vlga_jax.shapes import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class State:
    """The best of each phase that is evaluated."""

    champions: tuple[Champion, ...] = ()


class Given:
    """Proposes a list; the best of each phase is inherited by the next.

    Args:
      space: the genes.
      phases: gene values of every individual's new block.

    Raises:
      InputError: a gene is unknown, missing or outside the space.
    """

    def __init__(self, space: SearchSpace, phases: Phases):
        self._phases = [
            [_row(space, genes, phase, individual) for individual, genes in enumerate(individuals)]
            for phase, individuals in enumerate(phases)
        ]

    def init(self, key: PRNGKeyArray) -> State:
        del key  # nothing is drawn
        return State()

    def ask(self, state: State) -> tuple[Proposal, ...]:
        phase = len(state.champions)
        best = state.champions[-1] if phase else None
        return tuple(
            Proposal(
                Place(phase, 0, individual),
                best.chromosome.extended(row) if best else Chromosome(row[None]),
                "initial",
                inherits=best.place if best else None,
            )
            for individual, row in enumerate(self._phases[phase])
        )

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        del key
        return State((*state.champions, fitter(None, self.ask(state), fitness)))

    def done(self, state: State) -> bool:
        return len(state.champions) == len(self._phases)

    def champions(self, state: State) -> tuple[Champion, ...]:
        return state.champions

    def parents(self, state: State) -> tuple[Place, ...]:
        return ()

    def winner(self, state: State) -> Champion:
        return state.champions[-1]


def _row(space: SearchSpace, genes: Mapping[str, Any], phase: int, individual: int) -> np.ndarray:
    try:
        return space.to_indices(genes, phase)
    except InputError as error:
        gene = error.field.removeprefix("chromosome.")
        raise InputError(f"--chromosomes[{phase}][{individual}].{gene}", error.value, error.remedy) from error
