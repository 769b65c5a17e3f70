"""One generation from the last, as every genetic algorithm here makes it: survivors, mutants and children."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.checks import InputError, knob
from vlga_jax.evolution import selection, variation
from vlga_jax.evolution.operators import operator
from vlga_jax.genome.chromosome import Population
from vlga_jax.keys import stream
from vlga_jax.shapes import Array, Int, PRNGKeyArray

ORIGINS = ("initial", "survivor", "mutant", "child")
_SURVIVOR, _MUTANT, _CHILD = 1, 2, 3
NO_PARENT = -1


@dataclasses.dataclass(frozen=True)
class BreedingConfig:
    """What breeding depends on; the `SearchConfig` of a genetic algorithm adds its own knobs.

    Attributes:
      population_size: individuals a generation.
      num_elites: fittest that survive unmutated; 0 reproduces the sources.
      survival_rate: share of the population that survives for its fitness; at least two do.
      unfit_survival_prob: chance of each of the others to survive.
      mutation_rate: chance of a survivor to have one gene redrawn.
      child_mutation_rate: chance of a child, likewise; 0 reproduces the sources.
      crossover: how two parents recombine.
      parent_selection: fitness-weighted (softmax) or uniform over the survivors.
      parent_temperature: of the softmax, in fitness units.
    """

    population_size: int = knob(at_least=2, at_most=10_000)
    num_elites: int = knob(at_least=0)
    survival_rate: float = knob(at_least=0, at_most=1)
    unfit_survival_prob: float = knob(at_least=0, at_most=1)
    mutation_rate: float = knob(at_least=0, at_most=1)
    child_mutation_rate: float = knob(at_least=0, at_most=1)
    crossover: str = knob(one_of=("uniform", "single_point"))
    parent_selection: str = knob(one_of=("softmax", "uniform"))
    parent_temperature: float = knob(at_least=1e-6)

    def __post_init__(self) -> None:
        if self.num_elites > self.population_size:
            remedy = f"must be at most population_size={self.population_size}"
            raise InputError("config.search.num_elites", self.num_elites, remedy)


def num_fit(config: BreedingConfig) -> int:
    """Returns how many survive for their fitness: the rate's share rounded half up, at least 2, elites included."""
    return max(2, config.num_elites, math.floor(config.survival_rate * config.population_size + 0.5))


class Offspring(NamedTuple):
    """A new generation, survivors first.

    Attributes:
      genes: `[population, genes]`.
      fitness: `[population]`; a survivor's that did not mutate, NaN for the others.
      origin: `[population]`, places in `ORIGINS`.
      parents: `[population, 2]`, places in the old generation, -1 where there is none.
    """

    genes: Array
    fitness: Array
    origin: Array
    parents: Array


@operator("config")
def breed(
    key: PRNGKeyArray,
    population: Population,
    num_choices: Int[Array, " genes"],
    free: Array,
    *,
    config: BreedingConfig,
) -> Offspring:
    """Returns the next generation.

    Args:
      key: consumed.
      population: genes and fitness of the old generation; NaN fitness counts as worst.
      num_choices, free: cardinality of each gene, and whether it may change; `[genes]`.
      config: static.

    Source:
      Xiao et al. 2020, section 3.2. Parents are survivors as they were evaluated, not as mutated: fitness weights would
      otherwise speak of genes that nobody measured.
    """
    key_survive, key_mutate, key_genes, key_parents, key_cross = jax.random.split(key, 5)
    size = config.population_size
    survives = selection.select_survivors(
        key_survive, population.fitness, num_fit=num_fit(config), unfit_survival_prob=config.unfit_survival_prob
    )
    ranks = selection.rank(population.fitness)
    order = jnp.argsort(jnp.where(survives, ranks, ranks + size))
    slot = jnp.arange(size)
    is_survivor = slot < survives.sum()

    mutates = jax.random.bernoulli(key_mutate, config.mutation_rate, (size,)) & (slot >= config.num_elites)
    mutate = jax.vmap(variation.mutate, in_axes=(0, 0, None, None))
    kept = population.genes[order]
    mutants = mutate(jax.random.split(key_genes, size), kept, num_choices, free)

    temperature = config.parent_temperature if config.parent_selection == "softmax" else math.inf
    weights = selection.parent_log_weights(population.fitness, survives, temperature=temperature)
    mother, father = jax.vmap(selection.sample_parents, in_axes=(0, None))(jax.random.split(key_parents, size), weights)
    cross = variation.uniform_crossover if config.crossover == "uniform" else variation.single_point_crossover
    children = jax.vmap(cross, in_axes=(0, 0, 0, None))(
        jax.random.split(key_cross, size), population.genes[mother], population.genes[father], free
    )
    if config.child_mutation_rate:  # static: without it programs and keys are as they were
        key_which, key_child_genes = jax.random.split(stream(key, "child_mutation"))
        which = jax.random.bernoulli(key_which, config.child_mutation_rate, (size, 1))
        mutated = mutate(jax.random.split(key_child_genes, size), children, num_choices, free)
        children = jnp.where(which, mutated, children)

    origin = jnp.where(is_survivor, jnp.where(mutates, _MUTANT, _SURVIVOR), _CHILD)
    return Offspring(
        genes=jnp.where(is_survivor[:, None], jnp.where(mutates[:, None], mutants, kept), children),
        fitness=jnp.where(origin == _SURVIVOR, population.fitness[order], jnp.nan),
        origin=origin,
        parents=jnp.stack([jnp.where(is_survivor, order, mother), jnp.where(is_survivor, NO_PARENT, father)], axis=1),
    )


def parents_of(places: Int[np.ndarray, " 2"]) -> tuple[int | None, int | None]:
    """Returns an individual's parents, None where there is none."""
    mother, father = (None if place == NO_PARENT else int(place) for place in places)
    return mother, father


def known_fitness(offspring: Offspring, fitness: Sequence[float]) -> np.ndarray:
    """Returns what a new generation is worth so far, NaN where that is not known.

    Fitness travels through the operators as float32; what a survivor is worth is kept to the bit.

    Args:
      offspring: on the host.
      fitness: of the old generation.
    """
    return np.where(np.isnan(offspring.fitness), np.nan, np.asarray(fitness)[offspring.parents[:, 0]])
