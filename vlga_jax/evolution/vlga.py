"""The variable length genetic algorithm of Xiao et al. 2020 (arXiv 2006.12703), with the course report's variants.

A phase evolves one new block for `num_generations`; then its best individual is inherited, frozen, by every individual
of the next phase. Within a generation: rank, keep survivors, mutate some, refill with children of two survivors.
Fine-tuning a phase's best before it is inherited is ours; neither source does.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from vlga_jax.checks import InputError, knob
from vlga_jax.evolution.breeding import NO_PARENT, ORIGINS, BreedingConfig, breed, known_fitness, parents_of
from vlga_jax.evolution.operators import operator
from vlga_jax.evolution.strategy import Champion, Place, Proposal, fitter
from vlga_jax.genome.chromosome import Chromosome, Population, sample_genes
from vlga_jax.genome.space import SearchSpace
from vlga_jax.keys import stream
from vlga_jax.shapes import Array, PRNGKeyArray

_ROUNDING = 1e-9  # 0.07 - 0.06 exceeds 0.01 in float64; one image more or less is a larger step than this


@dataclasses.dataclass(frozen=True)
class SearchConfig(BreedingConfig):
    """How it evolves.

    Attributes:
      strategy: vlga.
      num_generations: a phase, the initial population counted.
      num_phases: at most; one block is added in each after the first.
      stop_rule: whether to end once a phase's best falls more than `stop_drop` below the best so far. That phase is
        then no part of the result.
      stop_drop: in fitness units.
      winner: what is trained to convergence: the last phase's best, or the best of all phases.
      winner_tolerance: how much less fit than the best of all phases an earlier phase's best may be to win instead,
        fitness units; the first such wins. About one standard error of the fitness picks the simplest network that is
        not told from the best (Breiman et al. 1984, the one-standard-error rule); neither source does.
      weight_transfer: whether inherited blocks bring their weights, frozen; else every network is trained whole from
        fresh weights, which is what transfer is measured against.
      fine_tuning_rate: share of the learning rate at which a phase's best trains on at the phase's end, whole, nothing
        frozen; if that makes it fitter, the next phase inherits it so. 0 is never: then no block learns after its own
        phase.
    """

    strategy: str = knob(one_of=("vlga",))
    num_generations: int = knob(at_least=1)
    num_phases: int = knob(at_least=1)
    stop_rule: bool = knob()
    stop_drop: float = knob(at_least=0)
    winner: str = knob(one_of=("last_phase", "best_phase"))
    winner_tolerance: float = knob(at_least=0, at_most=1)
    weight_transfer: bool = knob()
    fine_tuning_rate: float = knob(at_least=0, at_most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fine_tuning_rate and not self.weight_transfer:
            remedy = "needs weights to train on; set it to 0, or config.search.weight_transfer=true"
            raise InputError("config.search.fine_tuning_rate", self.fine_tuning_rate, remedy)
        if self.winner_tolerance and self.winner != "best_phase":
            remedy = "is for the best of all phases; set it to 0, or config.search.winner=best_phase"
            raise InputError("config.search.winner_tolerance", self.winner_tolerance, remedy)

    @property
    def planned_phases(self) -> int:
        return 0 if self.stop_rule else self.num_phases

    @property
    def planned_generations(self) -> int:
        return self.num_generations + (self.fine_tuning_rate > 0)

    def make(self, space: SearchSpace) -> "VLGA":
        return VLGA(space, self)


@operator("size")
def _sample_rows(key: PRNGKeyArray, num_choices: Array, free: Array, template: Array, size: int) -> Array:
    sample = jax.vmap(sample_genes, in_axes=(0, None, None, None))
    return sample(jax.random.split(key, size), num_choices, free, template)


@dataclasses.dataclass(frozen=True)
class VLGAState:
    """Where the search stands.

    Attributes:
      phase, generation: of `population`, from 0; after its last generation a phase's champion is fine-tuned, if that is
        wanted.
      population: its new blocks, with the fitness known before it is evaluated.
      origin: `[population]`, places in `ORIGINS`.
      parents: `[population, 2]`, -1 where there is none.
      finished: the champion of each phase before.
      champion: the best of this phase in the generations before; None in its first.
      ended: whether nothing is left to ask.
      rejected: whether the stop rule, or a phase in which everything failed, ended the search, so that the last
        champion is no part of the result.
    """

    phase: int
    generation: int
    population: Population
    origin: np.ndarray
    parents: np.ndarray
    finished: tuple[Champion, ...] = ()
    champion: Champion | None = None
    ended: bool = False
    rejected: bool = False


@dataclasses.dataclass(frozen=True)
class VLGA:
    """The strategy; see `vlga_jax.evolution.strategy.Strategy` for its methods."""

    space: SearchSpace
    config: SearchConfig

    def init(self, key: PRNGKeyArray) -> VLGAState:
        return self._start_phase(key, ())

    def ask(self, state: VLGAState) -> tuple[Proposal, ...]:
        if self._is_fine_tuning(state):
            return (self._fine_tuning_proposal(state),)
        inherited = state.finished[-1] if state.finished else None
        proposals = []
        for individual, row in enumerate(state.population.genes):
            mother, father = parents_of(state.parents[individual])
            fitness = float(state.population.fitness[individual])
            proposals.append(
                Proposal(
                    place=Place(state.phase, state.generation, individual),
                    chromosome=inherited.chromosome.extended(row) if inherited else Chromosome(np.asarray(row)[None]),
                    origin=ORIGINS[state.origin[individual]],
                    parent_a=mother,
                    parent_b=father,
                    inherits=inherited.place if inherited and self.config.weight_transfer else None,
                    fitness=None if math.isnan(fitness) else fitness,
                )
            )
        return tuple(proposals)

    def tell(self, key: PRNGKeyArray, state: VLGAState, fitness: Sequence[float]) -> VLGAState:
        champion = fitter(state.champion, self.ask(state), fitness)
        if state.generation + 1 < self.config.num_generations:
            return self._next_generation(key, state, fitness, champion)
        if self.config.fine_tuning_rate and not self._is_fine_tuning(state) and champion.fitness > -math.inf:
            return dataclasses.replace(state, generation=state.generation + 1, champion=champion)
        finished = (*state.finished, champion)
        if champion.fitness == -math.inf or self._fell(finished):
            return dataclasses.replace(state, finished=finished, champion=None, ended=True, rejected=True)
        if len(finished) == self.config.num_phases:
            return dataclasses.replace(state, finished=finished, champion=None, ended=True)
        return self._start_phase(key, finished)

    def done(self, state: VLGAState) -> bool:
        return state.ended

    def champions(self, state: VLGAState) -> tuple[Champion, ...]:
        return state.finished if state.champion is None else (*state.finished, state.champion)

    def parents(self, state: VLGAState) -> tuple[Place, ...]:
        return ()

    def winner(self, state: VLGAState) -> Champion:
        """Returns the champion to train to convergence; a phase has none that is rejected or that nobody finished.

        Raises:
          IndexError: everything failed from the start.
        """
        accepted = self.champions(state)
        if state.rejected:
            accepted = accepted[:-1]
        accepted = tuple(champion for champion in accepted if champion.fitness > -math.inf)
        last = accepted[-1]
        if self.config.winner == "last_phase":
            return last
        least = max(champion.fitness for champion in accepted) - self.config.winner_tolerance - _ROUNDING
        return next(champion for champion in accepted if champion.fitness >= least)

    def _is_fine_tuning(self, state: VLGAState) -> bool:
        return state.generation == self.config.num_generations

    def _fine_tuning_proposal(self, state: VLGAState) -> Proposal:
        """The phase's best once more, trained on as a whole."""
        champion = state.champion
        assert champion is not None, "a phase in which everything failed is not fine-tuned"
        return Proposal(
            place=Place(state.phase, state.generation, 0),
            chromosome=champion.chromosome,
            origin="fine_tuned",
            inherits=champion.place,
            sources=tuple(range(len(champion.chromosome.genes))),
            learning_rate_factor=self.config.fine_tuning_rate,
        )

    def _fell(self, finished: tuple[Champion, ...]) -> bool:
        """Whether the newest phase falls under the stop rule (Xiao et al. 2020: by more than 0.01)."""
        if not self.config.stop_rule or len(finished) < 2:
            return False
        fall = max(champion.fitness for champion in finished[:-1]) - finished[-1].fitness
        return fall > self.config.stop_drop + _ROUNDING

    def _start_phase(self, key: PRNGKeyArray, finished: tuple[Champion, ...]) -> VLGAState:
        phase, size = len(finished), self.config.population_size
        template = finished[-1].chromosome.genes[-1] if finished else np.zeros(self.space.num_genes, np.int32)
        genes = _sample_rows(
            stream(key, "initial", phase), self.space.num_choices, self.space.free(phase), template, size
        )
        return VLGAState(
            phase=phase,
            generation=0,
            population=Population(np.asarray(genes), np.full(size, np.nan)),
            origin=np.zeros(size, np.int32),
            parents=np.full((size, 2), NO_PARENT),
            finished=finished,
        )

    def _next_generation(
        self, key: PRNGKeyArray, state: VLGAState, fitness: Sequence[float], champion: Champion
    ) -> VLGAState:
        evaluated = Population(state.population.genes, np.asarray(fitness, np.float32))
        offspring = jax.device_get(
            breed(
                stream(key, "breed", state.phase, state.generation),
                evaluated,
                self.space.num_choices,
                self.space.free(state.phase),
                config=self.config,
            )
        )
        return dataclasses.replace(
            state,
            generation=state.generation + 1,
            population=Population(offspring.genes, known_fitness(offspring, fitness)),
            origin=offspring.origin,
            parents=offspring.parents,
            champion=champion,
        )
