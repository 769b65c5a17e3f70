"""Who survives and who becomes a parent: by hand, and over many keys against binomial expectations."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.evolution.selection import parent_log_weights, rank, sample_parents, select_survivors

NUM_KEYS = 20_000
NAN, INF = math.nan, math.inf
fitnesses = st.lists(st.floats(0, 1, width=32) | st.just(NAN), min_size=1, max_size=12)
seeds = st.integers(0, 2**32 - 1)


def survivors_over_keys(fitness: list[float], num_fit: int, prob: float, seed: int = 0) -> np.ndarray:
    """Returns who survives, bool [keys, population]."""
    keys = jax.random.split(jax.random.key(seed), NUM_KEYS)
    select = jax.vmap(lambda key: select_survivors(key, jnp.array(fitness), num_fit=num_fit, unfit_survival_prob=prob))
    return np.asarray(select(keys))


def parents_over_keys(log_weights: jax.Array, seed: int = 0) -> np.ndarray:
    """Returns how often each ordered pair became parents, int [population, population]."""
    keys = jax.random.split(jax.random.key(seed), NUM_KEYS)
    mother, father = jax.vmap(sample_parents, in_axes=(0, None))(keys, log_weights)
    pairs = np.zeros((len(log_weights),) * 2, np.int64)
    np.add.at(pairs, (np.asarray(mother), np.asarray(father)), 1)
    return pairs


@pytest.mark.parametrize(
    ("fitness", "expected"),
    [
        ([0.2, 0.9, 0.5], [2, 0, 1]),
        ([0.5], [0]),
        ([NAN], [0]),
        ([0.5, 0.5, 0.5], [0, 1, 2]),
        ([0.5, 0.7, 0.5, 0.7], [2, 0, 3, 1]),
        ([NAN, 0.0, 0.3, NAN], [2, 1, 0, 3]),
        ([-INF, NAN, INF], [1, 2, 0]),
    ],
)
def test_rank_of_ties_and_nan_worked_by_hand(fitness: list[float], expected: list[int]) -> None:
    ranks = rank(jnp.array(fitness))
    assert ranks.dtype == jnp.int32
    assert ranks.tolist() == jax.jit(rank)(jnp.array(fitness)).tolist() == expected


@settings(deadline=None, derandomize=True, max_examples=50)
@given(fitness=fitnesses)
def test_rank_agrees_with_a_stable_sort(fitness: list[float]) -> None:
    order = sorted(range(len(fitness)), key=lambda place: INF if math.isnan(fitness[place]) else -fitness[place])
    ranks = rank(jnp.array(fitness, jnp.float32)).tolist()
    assert [ranks[place] for place in order] == list(range(len(fitness)))


def test_rank_under_vmap_ranks_each_row() -> None:
    rows = jnp.array([[0.1, 0.2, NAN], [0.3, 0.3, 0.4]])
    assert jax.vmap(rank)(rows).tolist() == [rank(row).tolist() for row in rows]


def test_select_survivors_without_luck_keeps_the_fittest_only() -> None:
    fitness = jnp.array([0.1, NAN, 0.9, 0.5, 0.5, 0.2])
    chosen = select_survivors(jax.random.key(0), fitness, num_fit=2, unfit_survival_prob=0.0)
    assert chosen.tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize(("num_fit", "prob"), [(0, 1.0), (4, 0.0), (2, 1.0)])
def test_select_survivors_at_the_ends_of_its_ranges_keeps_all(num_fit: int, prob: float) -> None:
    assert survivors_over_keys([0.4, NAN, 0.1, 0.2], num_fit, prob).all()


def test_select_survivors_of_one_is_a_coin_unless_it_is_the_fittest(
    assert_shares: Callable[[object, int, object], None],
) -> None:
    assert_shares(survivors_over_keys([0.3], 0, 0.2).sum(), NUM_KEYS, 0.2)
    assert survivors_over_keys([0.3], 1, 0.2).all()


def test_select_survivors_over_many_keys_is_half_plus_a_fifth_of_the_rest(
    assert_shares: Callable[[object, int, object], None],
) -> None:
    fitness = [0.5, 0.1, NAN, 0.9, 0.8, 0.2, 0.7, 0.6, 0.3, 0.4]
    survives = survivors_over_keys(fitness, 5, 0.2)
    fit = np.isin(np.arange(10), [3, 4, 6, 7, 0])
    assert survives[:, fit].all()
    lucky = survives[:, ~fit]
    assert_shares(lucky.sum(axis=0), NUM_KEYS, 0.2)
    # Each by its own chance: how many of five survive is binomial, 0.2 each.
    numbers = np.bincount(lucky.sum(axis=1), minlength=6)
    assert_shares(numbers, NUM_KEYS, [math.comb(5, n) * 0.2**n * 0.8 ** (5 - n) for n in range(6)])


def test_select_survivors_with_the_same_key_is_the_same_under_jit_and_vmap() -> None:
    fitness = jnp.array([0.1, 0.9, 0.5, 0.5, 0.2])

    def select(key: jax.Array) -> jax.Array:
        return select_survivors(key, fitness, num_fit=2, unfit_survival_prob=0.5)

    keys = jax.random.split(jax.random.key(3), 16)
    plain = [select(key).tolist() for key in keys]
    assert [jax.jit(select)(key).tolist() for key in keys] == plain
    assert jax.vmap(select)(keys).tolist() == plain
    assert len({tuple(row) for row in plain}) > 1


def test_parent_log_weights_give_softmax_of_fitness_over_temperature() -> None:
    fitness = jnp.array([0.5, 0.6, NAN, 0.9])
    survives = jnp.array([True, True, True, False])
    weights = np.exp(parent_log_weights(fitness, survives, temperature=0.1))
    expected = np.array([math.exp(5), math.exp(6), 1, 0])
    np.testing.assert_allclose(weights / weights.sum(), expected / expected.sum(), rtol=2e-6)


def test_parent_log_weights_of_a_failure_are_no_higher_than_of_one_that_stopped_early() -> None:
    # What a strategy is told of networks that stopped lies below 0, see vlga_jax/fitness/stopping.py.
    fitness = jnp.array([0.9, -1.5, NAN, -3.5])
    survives = jnp.array([True, True, True, False])
    weights = np.exp(parent_log_weights(fitness, survives, temperature=1.0))
    np.testing.assert_allclose(weights, [1, math.exp(-2.4), math.exp(-2.4), 0], rtol=2e-6)


def test_parent_log_weights_of_raw_accuracies_are_almost_uniform() -> None:
    weights = np.exp(parent_log_weights(jnp.array([0.5, 0.6]), jnp.array([True, True]), temperature=1.0))
    assert weights[1] / weights[0] == pytest.approx(1.105, abs=0.001)  # protocol.md, section 2: about 1.1


@pytest.mark.parametrize("temperature", [1e-6, INF])
def test_parent_log_weights_at_extreme_temperatures_are_finite_for_survivors(temperature: float) -> None:
    survives = jnp.array([True, True, True, False])
    weights = parent_log_weights(jnp.array([0.9, 0.9, NAN, 0.95]), survives, temperature=temperature)
    assert jnp.isfinite(weights).tolist() == [True, True, True, False]
    assert weights[0] == weights[1] == 0
    assert (weights[2] == 0) == (temperature == INF)


def test_sample_parents_over_many_keys_is_successive_sampling_without_replacement(
    assert_shares: Callable[[object, int, object], None],
) -> None:
    # By hand: weights 1, 2, 3; the second is drawn from what the first leaves, so 1 then 2 is 1/6 * 2/5 = 1/15.
    temperature = 0.1
    fitness = temperature * jnp.log(jnp.array([1.0, 2.0, 3.0, 5.0]))
    weights = parent_log_weights(fitness, jnp.array([True, True, True, False]), temperature=temperature)
    pairs = parents_over_keys(weights)
    expected = np.array(
        [[0, 1 / 15, 1 / 10, 0], [1 / 12, 0, 1 / 4, 0], [1 / 6, 1 / 3, 0, 0], [0, 0, 0, 0]],
    )
    assert expected.sum() == pytest.approx(1)
    assert_shares(pairs, NUM_KEYS, expected)
    assert_shares(pairs.sum(axis=1), NUM_KEYS, [1 / 6, 1 / 3, 1 / 2, 0])


def test_sample_parents_of_uniform_weights_draws_every_pair_of_survivors_equally(
    assert_shares: Callable[[object, int, object], None],
) -> None:
    survives = np.array([True, False, True, True, True])
    weights = parent_log_weights(jnp.array([0.1, 0.9, 0.5, NAN, 0.9]), jnp.array(survives), temperature=INF)
    expected = np.outer(survives, survives) & ~np.eye(5, dtype=bool)
    assert_shares(parents_over_keys(weights), NUM_KEYS, expected / 12)


def test_sample_parents_at_the_lowest_temperature_draws_tied_best_equally(
    assert_shares: Callable[[object, int, object], None],
) -> None:
    weights = parent_log_weights(jnp.array([0.9, 0.2, 0.9, 0.9]), jnp.ones(4, bool), temperature=1e-6)
    pairs = parents_over_keys(weights)
    assert_shares(pairs.sum(axis=1), NUM_KEYS, [1 / 3, 0, 1 / 3, 1 / 3])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(seed=seeds, fitness=st.lists(st.floats(0, 1, width=32) | st.just(NAN), min_size=6, max_size=6), data=st.data())
def test_sample_parents_are_two_different_survivors(seed: int, fitness: list[float], data: st.DataObject) -> None:
    survives = data.draw(st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda flags: sum(flags) >= 2))
    weights = parent_log_weights(jnp.array(fitness, jnp.float32), jnp.array(survives), temperature=0.01)
    mother, father = (int(place) for place in jax.jit(sample_parents)(jax.random.key(seed), weights))
    assert mother != father
    assert survives[mother] and survives[father]


def test_sample_parents_of_two_survivors_are_both_in_either_order() -> None:
    weights = parent_log_weights(jnp.array([0.5, 0.1, 0.5]), jnp.array([True, False, True]), temperature=1.0)
    pairs = parents_over_keys(weights)
    assert pairs[0, 2] + pairs[2, 0] == NUM_KEYS
    assert min(pairs[0, 2], pairs[2, 0]) > 0


def test_sample_parents_with_the_same_key_is_the_same_under_jit_and_vmap() -> None:
    weights = jnp.log(jnp.array([1.0, 2.0, 3.0, 4.0]))
    keys = jax.random.split(jax.random.key(5), 16)
    plain = [tuple(map(int, sample_parents(key, weights))) for key in keys]
    assert [tuple(map(int, jax.jit(sample_parents)(key, weights))) for key in keys] == plain
    lifted = jax.vmap(sample_parents, in_axes=(0, None))(keys, weights)
    assert list(zip(*(places.tolist() for places in lifted), strict=True)) == plain
    assert len(set(plain)) > 1
