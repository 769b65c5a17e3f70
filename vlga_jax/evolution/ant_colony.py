"""Ant colony search: ants walk a graph of choices that grows by a block an iteration, and prefer what proved fit.

Byla & Pang 2019, "DeepSwarm" (arXiv 1905.07350), section 3: an ant colony system (Dorigo & Gambardella 1997, IEEE
Transactions on Evolutionary Computation 1(1), 53-66) that builds networks. A layer of this graph is a free gene of a
block, in the space's order; its nodes are the gene's choices; pheromone lies on the edges between the choices of one
layer and those of the next. This differs from DeepSwarm, whose layers of the graph are layers of a network: there
pheromone lies on edges between kinds of layers and, apart from them, on each attribute value of a node; there are
heuristic weights of edges, which are all 1 here; a path may close before the graph's full depth; a random ant walks
before all others; and the search ends with the iteration of the greatest depth.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.checks import knob
from vlga_jax.evolution.operators import operator
from vlga_jax.evolution.strategy import Champion, Place, Proposal, SingleChampion, fitter
from vlga_jax.genome.chromosome import Chromosome
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import Array, Bool, Float, Int, PRNGKeyArray

Pheromone = Float[np.ndarray, "max_depth genes choices choices"]
"""Of the edge to a gene's choice (last) from the choice taken in the layer before (last but one)."""


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How it searches.

    Attributes:
      strategy: ant_colony.
      num_ants: that walk in an iteration, one after the other.
      max_depth: blocks of the largest networks; iteration i, from 0, has networks of i + 1 blocks until then.
      num_iterations: from `max_depth` on at that depth.
      greediness: chance of an ant to take an edge with the most pheromone, not one drawn in proportion to it.
      pheromone_start: of every edge, in fitness units; a best path of less fitness than this repels.
      pheromone_decay: how far a step moves its edge's pheromone back to the start; 0 not at all, 1 all the way.
      pheromone_evaporation: how far an iteration moves the best path's pheromone towards its fitness.
    """

    strategy: str = knob(one_of=("ant_colony",))
    num_ants: int = knob(at_least=1, at_most=10_000)
    max_depth: int = knob(at_least=1, at_most=50)
    num_iterations: int = knob(at_least=1)
    greediness: float = knob(at_least=0, at_most=1)
    pheromone_start: float = knob(above=0, at_most=1e6)
    pheromone_decay: float = knob(at_least=0, at_most=1)
    pheromone_evaporation: float = knob(at_least=0, at_most=1)

    @property
    def planned_phases(self) -> int:
        return 1

    @property
    def planned_generations(self) -> int:
        return self.num_iterations

    @property
    def population_size(self) -> int:
        return self.num_ants

    def make(self, space: SearchSpace) -> "AntColony":
        return AntColony(space, self)


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search stands.

    Attributes:
      iteration: of `paths`, from 0.
      paths: what the ants chose, `[ants, blocks, genes]`; 0 where a gene is not free.
      pheromone: after these walks.
      best: of all iterations before; None while every ant failed.
    """

    iteration: int
    paths: np.ndarray
    pheromone: np.ndarray
    best: Champion | None = None


def choose(pheromone: Float[np.ndarray, " choices"], *, exploit: bool, draw: float) -> int:
    """Returns the choice whose edge an ant takes.

    Args:
      pheromone: of each edge; at least 0, not all 0.
      exploit: whether to take an edge with the most, each of them alike; else drawn in proportion to the pheromone.
      draw: uniform in [0, 1).

    Source:
      Dorigo & Gambardella 1997, the pseudo-random-proportional rule, without a heuristic.
    """
    weights = pheromone == pheromone.max() if exploit else pheromone
    cumulative = np.cumsum(weights, dtype=np.float64)
    return int(np.searchsorted(cumulative / cumulative[-1], draw, side="right"))


def walk(
    pheromone: Pheromone,
    free: Bool[np.ndarray, "blocks genes"],
    num_choices: Int[np.ndarray, " genes"],
    draws: Float[np.ndarray, "blocks genes 2"],
    *,
    greediness: float,
) -> Int[np.ndarray, "blocks genes"]:
    """Returns the path of one ant: the choice it takes of each free gene, 0 of every other.

    Args:
      pheromone: of at least as many blocks.
      free: which genes are layers of the graph. The first has one edge to each of its choices, from choice 0.
      num_choices: cardinalities.
      draws: uniform in [0, 1): whether to be greedy, and which edge to take.
      greediness: in [0, 1].
    """
    path, before = np.zeros(free.shape, np.int32), 0
    for block, gene in zip(*np.nonzero(free), strict=True):
        edges = pheromone[block, gene, before, : num_choices[gene]]
        exploit, draw = draws[block, gene]
        before = choose(edges, exploit=bool(exploit < greediness), draw=float(draw))
        path[block, gene] = before
    return path


def moved(
    pheromone: Pheromone,
    path: Int[np.ndarray, "blocks genes"],
    free: Bool[np.ndarray, "blocks genes"],
    *,
    rate: float,
    towards: float,
) -> Pheromone:
    """Returns the pheromone with every edge of a path moved, tau <- (1 - rate) * tau + rate * towards.

    Args:
      pheromone: of at least as many blocks as the path has.
      path: choices; those of genes that are not free do not count.
      free: as in `walk`.
      rate: in [0, 1].
      towards: the pheromone's start for the local update, the path's fitness for the global one.

    Source:
      Byla & Pang 2019, section 3, as their code has it (Pattio/DeepSwarm, deepswarm/aco.py, with accuracy as metric);
      Dorigo & Gambardella 1997 (ant colony system). Here, as in DeepSwarm, edges off the best path stay as they are. An
      ant takes no edge twice, so that the local update may wait until its walk is over.
    """
    blocks, genes = np.nonzero(free)
    after = path[free]
    before = np.concatenate([[0], after])[:-1]
    edges = pheromone[blocks, genes, before, after]
    result = pheromone.copy()
    # What is there already stays to the bit: greedy ants would see a rounding error between edges that are alike.
    result[blocks, genes, before, after] = np.where(edges == towards, edges, (1 - rate) * edges + rate * towards)
    return result


def num_shared_blocks(one: Int[np.ndarray, "blocks genes"], other: Int[np.ndarray, "other_blocks genes"]) -> int:
    """Returns how many leading blocks of two chromosomes are equal in every gene."""
    depth = min(len(one), len(other))
    return int(np.cumprod((one[:depth] == other[:depth]).all(axis=1)).sum())


@operator("num_ants", "shape")
def _draws(key: PRNGKeyArray, iteration: int | Array, num_ants: int, shape: tuple[int, ...]) -> Array:
    """Returns uniform numbers in [0, 1) of each ant, `[ants, *shape]`."""
    return jax.vmap(lambda ant: jax.random.uniform(stream(key, "ant", iteration, ant), shape))(jnp.arange(num_ants))


@dataclasses.dataclass(frozen=True)
class AntColony(SingleChampion):
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    space: SearchSpace
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> State:
        most = int(self.space.num_choices.max())
        shape = (self.config.max_depth, self.space.num_genes, most, most)
        return self._sent(key, 0, np.full(shape, self.config.pheromone_start), None)

    def ask(self, state: State) -> tuple[Proposal, ...]:
        """Returns the ants' networks; one that begins like the best so far trains those blocks' weights on.

        One whose path is all of the best's trains the whole network on: it is evaluated again, after more training.

        Source:
          Byla & Pang 2019, section 3. DeepSwarm looks for the longest beginning among all paths so far, takes the
          weights of the fittest that has it, and leaves weights that no longer get better alone.
        """
        return tuple(
            self._proposal(Place(0, state.iteration, ant), path, state.best) for ant, path in enumerate(state.paths)
        )

    def tell(self, key: PRNGKeyArray, state: State, fitness: Sequence[float]) -> State:
        best: Champion | None = fitter(state.best, self.ask(state), fitness)
        if best is None or best.fitness == -math.inf:
            return self._sent(key, state.iteration + 1, state.pheromone, None)
        if best.fitness < 0:  # all stopped early: told less than any accuracy, and pheromone is in accuracies
            return self._sent(key, state.iteration + 1, state.pheromone, best)
        path = np.asarray(best.chromosome.genes)
        rate = self.config.pheromone_evaporation
        pheromone = moved(state.pheromone, path, self._free(len(path)), rate=rate, towards=best.fitness)
        return self._sent(key, state.iteration + 1, pheromone, best)

    def done(self, state: State) -> bool:
        return state.iteration == self.config.num_iterations

    def _free(self, num_blocks: int) -> np.ndarray:
        """Which genes are layers of the graph, bool `[blocks, genes]`."""
        return np.stack([self.space.free(min(block, 1)) for block in range(num_blocks)])

    def _sent(self, key: PRNGKeyArray, iteration: int, pheromone: np.ndarray, best: Champion | None) -> State:
        """The state after an iteration's walks, each over the pheromone that the one before left."""
        depth = min(iteration + 1, self.config.max_depth)
        free, num_choices = self._free(depth), self.space.num_choices
        # Of the full depth at every iteration, so that one program serves all.
        draws = _draws(key, iteration, self.config.num_ants, (self.config.max_depth, self.space.num_genes, 2))
        paths = []
        for own in np.asarray(draws, np.float64)[:, :depth]:
            path = walk(pheromone, free, num_choices, own, greediness=self.config.greediness)
            rate, start = self.config.pheromone_decay, self.config.pheromone_start
            pheromone = moved(pheromone, path, free, rate=rate, towards=start)
            paths.append(path)
        return State(iteration, np.stack(paths), pheromone, best)

    def _proposal(self, place: Place, path: np.ndarray, best: Champion | None) -> Proposal:
        genes = np.where([gene.inherited for gene in self.space.genes], path[0], path)
        shared = num_shared_blocks(genes, np.asarray(best.chromosome.genes)) if best else 0
        if best is None or shared == 0:
            return Proposal(place, Chromosome(genes), "ant")
        sources = (*range(shared), *[None] * (len(genes) - shared))
        return Proposal(place, Chromosome(genes), "ant", inherits=best.place, sources=sources)
