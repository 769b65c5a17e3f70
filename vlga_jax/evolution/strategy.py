"""The protocol of every search strategy: init, ask, tell, done.

A strategy proposes individuals and is told their fitness; it knows nothing of networks, files or clocks. Its state is
immutable, and a function of the key and the fitness values alone: replaying the same values gives the same state.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.genome.space import SearchSpace
from vlga_jax.shapes import PRNGKeyArray


class Place(NamedTuple):
    """Where an individual stands in a run; all from 0."""

    phase: int
    generation: int
    individual: int


@dataclasses.dataclass(frozen=True)
class Proposal:
    """An individual that a strategy wants evaluated, or carries along.

    Attributes:
      place: where it stands.
      chromosome: its genes, inherited blocks included.
      origin: initial, survivor, mutant, child, fine_tuned or ant.
      parent_a, parent_b: see `vlga_jax.run.history.HistoryRow`.
      inherits: the individual whose weights it starts from; None if it starts afresh.
      sources: for each block, the block of `inherits` whose weights it starts from, where shapes agree, and trains on;
        None where a block is fresh; the head's go along where shapes agree. None instead of a tuple: all blocks of
        `inherits` are its first ones, frozen.
      learning_rate_factor: of the recipe's learning rate.
      may_be_parent: whether a later individual may inherit its weights however fit it is; else only a champion's are
        kept.
      fitness: what it is known to be worth; None if it must be evaluated.
    """

    place: Place
    chromosome: Chromosome
    origin: str
    parent_a: int | None = None
    parent_b: int | None = None
    inherits: Place | None = None
    sources: tuple[int | None, ...] | None = None
    learning_rate_factor: float = 1.0
    may_be_parent: bool = False
    fitness: float | None = None


@dataclasses.dataclass(frozen=True)
class Champion:
    """The best individual of a phase: where it first stood, its genes and its fitness."""

    place: Place
    chromosome: Chromosome
    fitness: float


def fitter(champion: Champion | None, proposals: Sequence[Proposal], fitness: Sequence[float]) -> Champion:
    """Returns the best of a champion, if there is one, and of newly evaluated individuals; the first among equals.

    Args:
      champion: the best before.
      proposals: at least one if there is no champion.
      fitness: of each; NaN is the worst.
    """
    for proposal, value in zip(proposals, fitness, strict=True):
        comparable = -math.inf if math.isnan(value) else float(value)
        if champion is None or comparable > champion.fitness:
            champion = Champion(proposal.place, proposal.chromosome, comparable)
    assert champion is not None
    return champion


@runtime_checkable
class StrategyConfig(Protocol):
    """A strategy's own knobs: a frozen dataclass named `SearchConfig` in the strategy's file."""

    @property
    def strategy(self) -> str:
        """Name of the strategy's file."""
        ...

    @property
    def planned_phases(self) -> int:
        """How many phases there will be; 0 if that is not known before."""
        ...

    @property
    def planned_generations(self) -> int:
        """How often a phase asks."""
        ...

    @property
    def population_size(self) -> int:
        """About how many individuals it asks for each time."""
        ...

    def make(self, space: SearchSpace) -> "Strategy[Any]":
        """Returns the strategy over a space.

        Raises:
          InputError: the space cannot give what the strategy needs; later it is too late to say so.
        """
        ...


@runtime_checkable
class HasBest(Protocol):
    """The state of a strategy that knows one champion only."""

    @property
    def best(self) -> Champion | None:
        """The best individual so far; None before any was told."""
        ...


class SingleChampion:
    """What strategies of one phase answer alike: the champion is their state's `best`, and only its weights matter."""

    def champions(self, state: HasBest) -> tuple[Champion, ...]:
        return () if state.best is None else (state.best,)

    def parents(self, state: Any) -> tuple[Place, ...]:
        return ()

    def winner(self, state: HasBest) -> Champion:
        """Returns the best of all.

        Raises:
          IndexError: there is none.
        """
        return self.champions(state)[0]


State = TypeVar("State")


@runtime_checkable
class Strategy(Protocol[State]):
    """Functions from state to state; `key` is the run's root for evolution, folded by phase and generation within."""

    def init(self, key: PRNGKeyArray) -> State:
        """Returns the state that proposes the first individuals."""
        ...

    def ask(self, state: State) -> tuple[Proposal, ...]:
        """Returns the individuals of the current generation, in their order."""
        ...

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        """Returns the state after the current generation, given each individual's fitness, NaN if it has none.

        Fitness that networks reached in fewer epochs than others is told as less than any of theirs.
        """
        ...

    def done(self, state: State) -> bool:
        """Returns whether nothing is left to ask."""
        ...

    def champions(self, state: State) -> tuple[Champion, ...]:
        """Returns the best individual of each phase so far, the unfinished one included."""
        ...

    def parents(self, state: State) -> tuple[Place, ...]:
        """Returns the individuals, champions aside, whose weights may still be inherited; all others' are dropped."""
        ...

    def winner(self, state: State) -> Champion:
        """Returns the individual to train to convergence."""
        ...
