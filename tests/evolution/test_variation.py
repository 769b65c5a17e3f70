"""Mutation and crossover: by hand, their invariants for any key, and their frequencies over many."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.evolution.variation import mutate, single_point_crossover, uniform_crossover

NUM_KEYS = 20_000
Crossover = Callable[..., jax.Array]
AssertShares = Callable[[object, int, object], None]
CROSSOVERS = [uniform_crossover, single_point_crossover]
seeds = st.integers(0, 2**32 - 1)
masks = st.lists(st.booleans(), min_size=6, max_size=6)
NUM_CHOICES = jnp.array([3, 7, 2, 1, 5, 2])
rows = st.tuples(*(st.integers(0, n - 1) for n in NUM_CHOICES.tolist()))
COMPILED = {operator: jax.jit(operator) for operator in (mutate, *CROSSOVERS)}


def keys_of(seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), NUM_KEYS)


def children_over_keys(crossover: Crossover, free: list[bool], seed: int = 0) -> np.ndarray:
    """Returns where children of parents 0 0 ... and 1 1 ... have the second's gene, int [keys, genes]."""
    zeros, ones = jnp.zeros(len(free), jnp.int32), jnp.ones(len(free), jnp.int32)
    lifted = jax.vmap(crossover, in_axes=(0, None, None, None))
    return np.asarray(lifted(keys_of(seed), zeros, ones, jnp.array(free)))


def mutate_over_keys(genes: list[int], num_choices: list[int], free: list[bool]) -> np.ndarray:
    lifted = jax.vmap(mutate, in_axes=(0, None, None, None))
    return np.asarray(lifted(keys_of(0), jnp.array(genes), jnp.array(num_choices), jnp.array(free)))


def test_mutate_with_one_free_gene_of_two_choices_flips_it() -> None:
    free = jnp.array([False, False, True, False, False, False])
    genes = jnp.array([2, 6, 0, 0, 4, 1])
    for seed in range(20):
        assert COMPILED[mutate](jax.random.key(seed), genes, NUM_CHOICES, free).tolist() == [2, 6, 1, 0, 4, 1]


@settings(deadline=None, derandomize=True)
@given(seed=seeds, genes=rows, wanted=masks)
def test_mutate_changes_exactly_one_free_gene_to_another_choice(
    seed: int, genes: tuple[int, ...], wanted: list[bool]
) -> None:
    free = np.array(wanted) & (np.asarray(NUM_CHOICES) > 1)
    mutant = COMPILED[mutate](jax.random.key(seed), jnp.array(genes), NUM_CHOICES, jnp.array(free))
    changed = np.asarray(mutant) != np.array(genes)
    assert mutant.dtype == jnp.int32
    assert changed.sum() == (1 if free.any() else 0)
    assert not (changed & ~free).any()
    assert np.all((mutant >= 0) & (mutant < NUM_CHOICES))


def test_mutate_over_many_keys_chooses_gene_and_new_choice_uniformly(assert_shares: AssertShares) -> None:
    genes, num_choices, free = [1, 6, 0, 0, 3], [3, 7, 2, 5, 5], [True, True, True, False, True]
    mutants = mutate_over_keys(genes, num_choices, free)
    for gene, choices in enumerate(num_choices):
        counts = np.bincount(mutants[:, gene], minlength=choices)
        expected = np.full(choices, 1 / 4 / (choices - 1) if free[gene] else 0.0)  # four free genes
        expected[genes[gene]] = 3 / 4 if free[gene] else 1.0
        assert_shares(counts, NUM_KEYS, expected)


@pytest.mark.parametrize(("free", "expected"), [(True, {0, 2}), (False, {1})])
def test_mutate_of_a_single_gene_always_changes_it_if_free(free: bool, expected: set[int]) -> None:
    assert set(mutate_over_keys([1], [3], [free]).ravel().tolist()) == expected


def test_uniform_crossover_worked_by_hand_follows_its_coins() -> None:
    key = jax.random.key(4)
    coins = jax.random.bernoulli(key, 0.5, (6,)).tolist()
    mother, father = [0, 1, 0, 0, 2, 1], [2, 6, 1, 0, 4, 0]
    child = uniform_crossover(key, jnp.array(mother), jnp.array(father), jnp.ones(6, bool))
    assert child.tolist() == [b if coin else a for a, b, coin in zip(mother, father, coins, strict=True)]
    assert len(set(coins)) == 2


def test_uniform_crossover_over_many_keys_mixes_half_and_half(assert_shares: AssertShares) -> None:
    from_father = children_over_keys(uniform_crossover, [True, False, True, True, False])
    assert_shares(from_father.sum(axis=0), NUM_KEYS, [0.5, 0, 0.5, 0.5, 0])
    # Independently: each of the eight patterns of three free genes is as likely.
    patterns = np.bincount(from_father[:, [0, 2, 3]] @ [4, 2, 1], minlength=8)
    assert_shares(patterns, NUM_KEYS, 1 / 8)


def test_single_point_crossover_over_many_keys_cuts_once_each_place_equally_likely(assert_shares: AssertShares) -> None:
    # Five free genes have four cuts; from the cut on they are the father's, the two others are the mother's.
    from_father = children_over_keys(single_point_crossover, [True, False, True, True, True, False, True])
    patterns, counts = np.unique(from_father, axis=0, return_counts=True)
    assert patterns.tolist() == [
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 1],
        [0, 0, 0, 1, 1, 0, 1],
        [0, 0, 1, 1, 1, 0, 1],
    ]
    assert_shares(counts, NUM_KEYS, 1 / 4)


def test_single_point_crossover_of_two_free_genes_has_one_cut() -> None:
    assert np.unique(children_over_keys(single_point_crossover, [True, False, True]), axis=0).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("free", [[True], [False], [False, False, True, False], [False] * 4])
def test_single_point_crossover_without_room_for_a_cut_gives_the_first_parent(free: list[bool]) -> None:
    assert not children_over_keys(single_point_crossover, free).any()


def test_uniform_crossover_of_a_single_gene_is_a_coin(assert_shares: AssertShares) -> None:
    assert_shares(children_over_keys(uniform_crossover, [True]).sum(), NUM_KEYS, 0.5)
    assert not children_over_keys(uniform_crossover, [False]).any()


@pytest.mark.parametrize("crossover", CROSSOVERS)
@settings(deadline=None, derandomize=True)
@given(seed=seeds, mother=rows, father=rows, free=masks)
def test_crossover_takes_every_gene_from_a_parent_and_fixed_ones_from_the_first(
    crossover: Crossover, seed: int, mother: tuple[int, ...], father: tuple[int, ...], free: list[bool]
) -> None:
    parents = np.array([mother, father])
    child = COMPILED[crossover](jax.random.key(seed), *map(jnp.array, parents), jnp.array(free))
    assert child.dtype == jnp.int32
    assert np.all((child == parents[0]) | ((child == parents[1]) & np.array(free)))


@pytest.mark.parametrize("crossover", CROSSOVERS)
def test_crossover_of_identical_parents_is_the_parent(crossover: Crossover) -> None:
    row = jnp.array([2, 6, 1, 0, 4, 1])
    for seed in range(10):
        assert crossover(jax.random.key(seed), row, row, jnp.ones(6, bool)).tolist() == row.tolist()


@pytest.mark.parametrize("crossover", CROSSOVERS)
def test_crossover_with_the_same_key_is_the_same_under_jit_and_vmap(crossover: Crossover) -> None:
    pair = jnp.array([0, 1, 0, 0, 2, 1]), jnp.array([2, 6, 1, 0, 4, 0])
    free = jnp.array([True, True, True, False, True, True])
    keys = jax.random.split(jax.random.key(6), 12)
    plain = [crossover(key, *pair, free).tolist() for key in keys]
    assert [COMPILED[crossover](key, *pair, free).tolist() for key in keys] == plain
    assert jax.vmap(crossover, in_axes=(0, None, None, None))(keys, *pair, free).tolist() == plain
    assert len({tuple(row) for row in plain}) > 1


def test_mutate_with_the_same_key_is_the_same_under_jit_and_vmap() -> None:
    genes, free = jnp.array([2, 6, 1, 0, 4, 1]), NUM_CHOICES > 1
    keys = jax.random.split(jax.random.key(7), 12)
    plain = [mutate(key, genes, NUM_CHOICES, free).tolist() for key in keys]
    assert [COMPILED[mutate](key, genes, NUM_CHOICES, free).tolist() for key in keys] == plain
    assert jax.vmap(mutate, in_axes=(0, None, None, None))(keys, genes, NUM_CHOICES, free).tolist() == plain
    assert len({tuple(row) for row in plain}) > 1
