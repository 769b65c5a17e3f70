"""One generation from the last: its layout for any key, and its frequencies over many."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.checks import InputError
from vlga_jax.evolution.breeding import ORIGINS, Offspring, breed, num_fit
from vlga_jax.evolution.selection import rank
from vlga_jax.evolution.vlga import SearchConfig
from vlga_jax.genome.chromosome import Population

MakeConfig = Callable[..., SearchConfig]
AssertShares = Callable[[object, int, object], None]
NUM_KEYS = 3000
NAN = math.nan
NUM_CHOICES = np.array([10, 10, 10, 1, 10, 10, 10, 10], np.int32)
FREE = np.array([True, True, False, False, True, True, True, True])
GENES = np.where(NUM_CHOICES > 1, np.arange(10, dtype=np.int32)[:, None], 0)  # a gene tells whose it was
FITNESS = [0.5, 0.1, 0.3, 0.9, 0.8, 0.2, 0.7, 0.6, 0.0, 0.4]
FITTEST = [3, 4, 6, 7, 0]
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "elites": {"num_elites": 2, "mutation_rate": 1.0},
    "three_survive": {
        "survival_rate": 0.3,
        "unfit_survival_prob": 0.0,
        "mutation_rate": 0.0,
        "crossover": "single_point",
        "parent_temperature": 0.2,
    },
    "uniform_parents": {"parent_selection": "uniform", "unfit_survival_prob": 0.0, "mutation_rate": 0.2},
}
"""Each compiles a program of its own; what runs under one is not compiled again."""


def breed_once(key: jax.Array, fitness: list[float], config: SearchConfig, free: np.ndarray = FREE) -> Offspring:
    population = Population(GENES, np.array(fitness, np.float32))
    return jax.device_get(breed(key, population, NUM_CHOICES, free, config=config))


@functools.cache
def breed_over_keys(config: SearchConfig) -> Offspring:
    """Returns the offspring of NUM_KEYS keys, with a leading axis."""
    offspring = [breed_once(key, FITNESS, config) for key in jax.random.split(jax.random.key(1), NUM_KEYS)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *offspring)


def of_origin(offspring: Offspring, name: str) -> np.ndarray:
    return np.asarray(offspring.origin) == ORIGINS.index(name)


def binomial(trials: int, prob: float) -> list[float]:
    return [math.comb(trials, n) * prob**n * (1 - prob) ** (trials - n) for n in range(trials + 1)]


@pytest.mark.parametrize("variant", VARIANTS)
@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    fitness=st.lists(st.sampled_from([NAN, 0.0, 0.25, 0.5, 0.75, 1.0]), min_size=10, max_size=10),
)
def test_breed_of_any_population_keeps_its_layout(
    variant: str, make_config: MakeConfig, seed: int, fitness: list[float]
) -> None:
    config = make_config(**VARIANTS[variant])
    new = breed_once(jax.random.key(seed), fitness, config)
    survivor, mutant, child = (of_origin(new, name) for name in ("survivor", "mutant", "child"))
    kept, mother, father = survivor | mutant, new.parents[:, 0], new.parents[:, 1]
    ranks = np.asarray(rank(jnp.array(fitness, jnp.float32)))

    # Survivors stand first, by rank, the fittest among them; none stands there twice.
    assert np.all(kept[:-1] >= kept[1:]) and np.all(kept | child)
    assert np.all(np.diff(ranks[mother[kept]]) > 0)
    assert ranks[mother[kept]][: num_fit(config)].tolist() == list(range(num_fit(config)))
    assert np.all(father[kept] == -1)
    assert np.all(survivor[: config.num_elites])

    # A survivor keeps genes and fitness, a mutant differs in one free gene and is worth nothing yet.
    np.testing.assert_array_equal(new.genes[survivor], GENES[mother[survivor]])
    np.testing.assert_array_equal(new.fitness[survivor], np.array(fitness, np.float32)[mother[survivor]])
    changed = new.genes[mutant] != GENES[mother[mutant]]
    assert np.all(changed.sum(axis=1) == 1) and not changed[:, ~FREE].any()
    assert np.isnan(new.fitness[~survivor]).all()

    # Children have two different survivors as parents, and every gene from either as it was evaluated.
    assert np.all(mother[child] != father[child])
    assert set(new.parents[child].ravel().tolist()) <= set(mother[kept].tolist())
    from_mother = new.genes[child] == GENES[mother[child]]
    assert np.all(from_mother | (FREE & (new.genes[child] == GENES[father[child]])))
    assert np.all((new.genes >= 0) & (new.genes < NUM_CHOICES))


def test_breed_with_three_sure_survivors_worked_by_hand(make_config: MakeConfig) -> None:
    new = breed_once(jax.random.key(0), FITNESS, make_config(**VARIANTS["three_survive"]))
    assert [ORIGINS[origin] for origin in new.origin] == ["survivor"] * 3 + ["child"] * 7
    assert new.parents[:3].tolist() == [[3, -1], [4, -1], [6, -1]]
    assert new.fitness[:3].tolist() == np.array([0.9, 0.8, 0.7], np.float32).tolist()
    for row, (mother, father) in zip(new.genes[3:], new.parents[3:], strict=True):
        cuts = [np.where(FREE & (np.cumsum(FREE) > cut), GENES[father], GENES[mother]) for cut in range(1, 6)]
        assert row.tolist() in [cut.tolist() for cut in cuts]


def test_breed_over_many_keys_lets_half_and_a_fifth_of_the_rest_survive(
    make_config: MakeConfig, assert_shares: AssertShares
) -> None:
    new = breed_over_keys(make_config())
    numbers = (~of_origin(new, "child")).sum(axis=1)
    assert_shares(np.bincount(numbers, minlength=11), NUM_KEYS, [0.0] * 5 + binomial(5, 0.2))
    kept = np.where(of_origin(new, "child"), -1, new.parents[:, :, 0])
    counts = [(kept == place).sum() for place in range(10)]
    assert_shares(counts, NUM_KEYS, [1.0 if place in FITTEST else 0.2 for place in range(10)])


def test_breed_over_many_keys_mutates_survivors_at_the_rate(
    make_config: MakeConfig, assert_shares: AssertShares
) -> None:
    new = breed_over_keys(make_config())
    mutants = of_origin(new, "mutant")
    assert_shares(mutants[:, :5].sum(axis=0), NUM_KEYS, 0.1)
    lucky = ~of_origin(new, "child")[:, 5:]
    assert_shares(mutants[:, 5:].sum(), int(lucky.sum()), 0.1)


def test_breed_over_many_keys_mutates_children_at_the_rate_and_changes_nothing_else(
    make_config: MakeConfig, assert_shares: AssertShares
) -> None:
    new, plain = breed_over_keys(make_config(child_mutation_rate=0.3)), breed_over_keys(make_config())
    for name in ("fitness", "origin", "parents"):
        np.testing.assert_array_equal(getattr(new, name), getattr(plain, name))
    child, differs = of_origin(new, "child"), new.genes != plain.genes
    assert not differs[~child].any()
    assert set(differs.sum(axis=2).ravel().tolist()) == {0, 1}
    assert_shares(differs.any(axis=2).sum(), int(child.sum()), 0.3)
    assert_shares(differs.sum(axis=(0, 1)), int(differs.sum()), FREE / FREE.sum())


def test_breed_over_many_keys_draws_for_each_individual_by_itself(
    make_config: MakeConfig, assert_shares: AssertShares
) -> None:
    mutants = of_origin(breed_over_keys(make_config()), "mutant")[:, :5].sum(axis=1)
    assert_shares(np.bincount(mutants, minlength=6), NUM_KEYS, binomial(5, 0.1))

    mutated = breed_over_keys(make_config(**VARIANTS["elites"]))  # all but two
    place = (mutated.genes != mutated.parents[:, :, :1])[:, 2:4, FREE].argmax(axis=2)
    assert_shares((place[:, 0] == place[:, 1]).sum(), NUM_KEYS, 1 / FREE.sum())

    new = breed_over_keys(make_config(**VARIANTS["uniform_parents"]))  # the last five are children
    assert_shares((new.parents[:, 5] == new.parents[:, 6]).all(axis=1).sum(), NUM_KEYS, 1 / 20)
    from_father = (new.genes == new.parents[:, :, 1:])[:, 5:, FREE]
    assert_shares((from_father[:, 0] == from_father[:, 1]).sum(axis=0), NUM_KEYS, 0.5)


@pytest.mark.parametrize(
    ("variant", "parents", "temperature"),
    [("three_survive", [3, 4, 6], 0.2), ("uniform_parents", FITTEST, math.inf)],
)
def test_breed_over_many_keys_chooses_parents_as_configured(
    variant: str, parents: list[int], temperature: float, make_config: MakeConfig, assert_shares: AssertShares
) -> None:
    new = breed_over_keys(make_config(**VARIANTS[variant]))
    pairs = new.parents[of_origin(new, "child")]
    assert len(pairs) == (10 - len(parents)) * NUM_KEYS
    weights = {place: math.exp(FITNESS[place] / temperature) for place in parents}
    total = sum(weights.values())
    first = np.zeros(10)
    second = np.zeros(10)
    for a, weight_a in weights.items():
        first[a] = weight_a / total
        for b, weight_b in weights.items():
            second[b] += 0 if a == b else weight_a / total * weight_b / (total - weight_a)
    assert_shares(np.bincount(pairs[:, 0], minlength=10), len(pairs), first)
    assert_shares(np.bincount(pairs[:, 1], minlength=10), len(pairs), second)


def test_breed_of_two_keeps_both_and_makes_no_child(make_config: MakeConfig) -> None:
    config = make_config(population_size=2, survival_rate=0.0, unfit_survival_prob=0.0, mutation_rate=1.0, num_elites=1)
    population = Population(GENES[:2], np.array([0.1, 0.7], np.float32))
    new = breed(jax.random.key(0), population, NUM_CHOICES, FREE, config=config)
    assert [ORIGINS[origin] for origin in new.origin.tolist()] == ["survivor", "mutant"]
    assert new.parents.tolist() == [[1, -1], [0, -1]]


def test_breed_with_nothing_free_changes_no_genes(make_config: MakeConfig) -> None:
    config = make_config(**VARIANTS["elites"])
    new = breed_once(jax.random.key(0), FITNESS, config, free=np.zeros(8, bool))
    np.testing.assert_array_equal(new.genes, GENES[new.parents[:, 0]])


def test_breed_gives_what_a_program_with_all_of_llvms_optimisations_gives(make_config: MakeConfig) -> None:
    config, population = make_config(), Population(GENES, np.array(FITNESS, np.float32))
    optimised = jax.jit(inspect.unwrap(breed), static_argnames="config")
    for key in jax.random.split(jax.random.key(2), 50):
        expected = jax.device_get(optimised(key, population, NUM_CHOICES, FREE, config=config))
        jax.tree.map(np.testing.assert_array_equal, breed_once(key, FITNESS, config), expected)


def test_breed_with_the_same_key_is_the_same_and_with_another_differs(make_config: MakeConfig) -> None:
    first, again, other = (breed_once(jax.random.key(seed), FITNESS, make_config()) for seed in (1, 1, 2))
    for name in Offspring._fields:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.genes, other.genes)


@pytest.mark.parametrize(
    ("size", "rate", "num_elites", "expected"),
    [(10, 0.5, 0, 5), (20, 0.5, 0, 10), (5, 0.5, 0, 3), (10, 0.0, 0, 2), (10, 0.1, 4, 4), (10, 1.0, 0, 10)],
)
def test_num_fit_is_the_rounded_share_at_least_two_and_all_elites(
    size: int, rate: float, num_elites: int, expected: int, make_config: MakeConfig
) -> None:
    assert num_fit(make_config(population_size=size, survival_rate=rate, num_elites=num_elites)) == expected


def test_search_config_with_more_elites_than_individuals_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(InputError) as caught:
        make_config(num_elites=11)
    assert str(caught.value) == "config.search.num_elites=11: must be at most population_size=10"


def test_search_config_is_immutable(make_config: MakeConfig) -> None:
    field = dataclasses.fields(SearchConfig)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(make_config(), field, 3)
