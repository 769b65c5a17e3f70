"""Named streams of keys: the same name and place give the same key, any other a different one."""

import itertools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.keys import stream

ROOT = jax.random.key(0)
PLACES = st.lists(st.integers(0, 2**32 - 1), max_size=3)


def bits(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())


def test_stream_folds_in_the_purpose_then_each_place() -> None:
    expected = ROOT
    for word in (zlib.crc32(b"breed"), 3, 1):
        expected = jax.random.fold_in(expected, word)
    assert bits(stream(ROOT, "breed", 3, 1)) == bits(expected)


def test_stream_of_equal_arguments_is_the_same_key() -> None:
    assert bits(stream(ROOT, "breed", 3, 1)) == bits(stream(jax.random.key(0), "breed", 3, 1))


def test_stream_of_different_arguments_never_repeats_a_key() -> None:
    places = [(), *itertools.product(range(4)), *itertools.product(range(4), range(4))]
    keys = [
        stream(jax.random.key(seed), purpose, *place)
        for seed in range(2)
        for purpose in ("initial", "breed", "shuffle", "")
        for place in places
    ]
    assert len({bits(key) for key in [ROOT, *keys]}) == len(keys) + 1


@settings(deadline=None, derandomize=True, max_examples=30)
@given(places=PLACES, more=PLACES)
def test_stream_of_a_place_within_a_place_continues_it(places: list[int], more: list[int]) -> None:
    within = stream(ROOT, "epoch", *places)
    for place in more:
        within = jax.random.fold_in(within, place)
    assert bits(stream(ROOT, "epoch", *places, *more)) == bits(within)


def test_stream_under_jit_and_vmap_agrees_with_plain_calls() -> None:
    places = jnp.arange(5)
    lifted = jax.jit(jax.vmap(lambda place: stream(ROOT, "individual", 2, place)))(places)
    assert [bits(key) for key in lifted] == [bits(stream(ROOT, "individual", 2, place)) for place in range(5)]


def test_streams_of_neighbouring_places_are_uncorrelated() -> None:
    draws = jax.vmap(lambda place: jax.random.normal(stream(ROOT, "noise", place), (4000,)))(jnp.arange(4))
    correlation = np.corrcoef(np.asarray(draws)) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)  # five standard errors of a correlation of zero
