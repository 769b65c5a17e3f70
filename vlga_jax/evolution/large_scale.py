"""Large-scale evolution: pairs of networks meet, the fitter stays and has a child, which trains its weights further.

Real et al. 2017, "Large-Scale Evolution of Image Classifiers" (arXiv 1703.01041), section 3. Networks begin without
convolutions and grow by mutation. There many workers take one pair at a time, as they become free; here `num_children`
pairs are taken at once, so that a run does not depend on who is ready first.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from vlga_jax.checks import InputError, knob
from vlga_jax.evolution.large_scale_mutations import Individual, make_initial, mutate
from vlga_jax.evolution.strategy import Champion, Place, Proposal, SingleChampion, fitter
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import Array, Float, Int, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How it evolves.

    Attributes:
      strategy: large_scale.
      population_size: the living; 1,000 in the paper.
      num_children: trained between two changes of the population, each of another pair.
      num_cycles: of `num_children` each, after the initial population.
      max_convolutions: of a network; not bounded in the paper.
    """

    strategy: str = knob(one_of=("large_scale",))
    population_size: int = knob(at_least=2, at_most=10_000)
    num_children: int = knob(at_least=1)
    num_cycles: int = knob(at_least=0)
    max_convolutions: int = knob(at_least=1, at_most=100)

    def __post_init__(self) -> None:
        if 2 * self.num_children > self.population_size:
            remedy = f"must be at most half of population_size={self.population_size}: each is of another pair"
            raise InputError("config.search.num_children", self.num_children, remedy)

    @property
    def planned_phases(self) -> int:
        return 1

    @property
    def planned_generations(self) -> int:
        return 1 + self.num_cycles

    def make(self, space: SearchSpace) -> "LargeScale":
        _check(space)
        return LargeScale(space, self)


def _check(space: SearchSpace) -> None:
    """Raises InputError where a block cannot be one convolution and nothing else."""
    genes = {gene.name: gene for gene in space.genes}
    for name in ("include_b", "include_pool"):
        if False not in genes[name].choices:
            raise InputError(f"config.space.{name}", genes[name].choices, "must hold false for large_scale")
    if genes["include_b"].first_block is not None:
        remedy = "must be false for large_scale, whose blocks are single convolutions"
        raise InputError("config.space.first_block_has_b", genes["include_b"].first_block, remedy)


@dataclasses.dataclass(frozen=True)
class Living:
    """A trained individual of the population: where it stood, and its fitness, NaN if it failed."""

    place: Place
    individual: Individual
    fitness: float


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search stands.

    Attributes:
      cycle: 0 for the initial population.
      asked: what is asked for.
      parents: of these; None in the initial population.
      living: the trained ones of the population, the oldest first; those of `asked` join them.
      best: of all so far.
    """

    cycle: int
    asked: tuple[Individual, ...]
    parents: tuple[Place | None, ...]
    living: tuple[Living, ...] = ()
    best: Champion | None = None


def draw_pairs(key: PRNGKeyArray, num_living: int, num_pairs: int) -> Int[Array, "num_pairs 2"]:
    """Returns places in the population, no place twice.

    Args:
      key: consumed.
      num_living: at least twice `num_pairs`.
      num_pairs: at least 1.

    Source:
      Real et al. 2017, section 3.1. There each worker draws one pair, on its own.
    """
    return jax.random.permutation(key, num_living)[: 2 * num_pairs].reshape(num_pairs, 2)


def tournament(
    pairs: Int[Array | np.ndarray, "pairs 2"], fitness: Float[np.ndarray, " living"]
) -> Int[np.ndarray, "pairs 2"]:
    """Returns of each pair first the fitter one, which stays, then the other, which dies; equals as they were drawn.

    Args:
      pairs: places in `fitness`.
      fitness: NaN counts as worst.

    Source:
      Real et al. 2017, section 3.1.
    """
    drawn = np.asarray(pairs)
    comparable = np.where(np.isnan(fitness), -np.inf, fitness)[drawn]
    second_wins = comparable[:, 1:] > comparable[:, :1]
    return np.where(second_wins, drawn[:, ::-1], drawn)


@dataclasses.dataclass(frozen=True)
class LargeScale(SingleChampion):
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    space: SearchSpace
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> State:
        size = self.config.population_size
        asked = tuple(make_initial(stream(key, "initial", place), self.space) for place in range(size))
        return State(0, asked, (None,) * size)

    def ask(self, state: State) -> tuple[Proposal, ...]:
        return tuple(
            Proposal(
                Place(0, state.cycle, place),
                individual.chromosome(self.space),
                "initial" if parent is None else "mutant",
                parent_a=parent.individual if parent is not None and parent.generation == state.cycle - 1 else None,
                inherits=None if individual.sources is None else parent,
                sources=individual.sources,
                learning_rate_factor=individual.learning_rate_factor,
                may_be_parent=True,
            )
            for place, (individual, parent) in enumerate(zip(state.asked, state.parents, strict=True))
        )

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        best = fitter(state.best, self.ask(state), fitness)
        places = [Place(0, state.cycle, place) for place in range(len(state.asked))]
        born = [Living(*one) for one in zip(places, state.asked, map(float, fitness), strict=True)]
        living, cycle = (*state.living, *born), state.cycle + 1
        if cycle > self.config.num_cycles:
            return State(cycle, (), (), living, best)
        pairs = draw_pairs(stream(key, "pairs", cycle), len(living), self.config.num_children)
        stays, dies = tournament(pairs, np.array([one.fitness for one in living])).T.tolist()
        parents = [living[place] for place in stays]
        children = [self._child(stream(key, "child", cycle, place), one) for place, one in enumerate(parents)]
        return State(
            cycle,
            tuple(children),
            tuple(one.place for one in parents),
            tuple(one for place, one in enumerate(living) if place not in dies),
            best,
        )

    def done(self, state: State) -> bool:
        return state.cycle > self.config.num_cycles

    def parents(self, state: State) -> tuple[Place, ...]:
        return tuple(one.place for one in state.living)

    def _child(self, key: PRNGKeyArray, parent: Living) -> Individual:
        child = mutate(key, parent.individual, self.space, max_convolutions=self.config.max_convolutions)
        failed = math.isnan(parent.fitness)  # so that there are no weights to start from
        return dataclasses.replace(child, sources=None) if failed else child
