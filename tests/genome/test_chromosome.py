"""Chromosomes and populations: immutable pytrees; rows drawn uniformly; values to genes and back."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.checks import InputError, parse
from vlga_jax.genome.chromosome import Chromosome, Population, from_values, sample_genes, to_values
from vlga_jax.genome.space import SpaceConfig, make_search_space

SPACE = make_search_space(
    parse(
        SpaceConfig,
        {
            "activations": ("relu", "elu"),
            "channels": (8, 16, 32),
            "kernels": (1, 3),
            "batch_norm": (True, False),
            "include_pool": (True, False),
            "pool_types": ("max", "average"),
            "include_b": (True, False),
            "include_skip": (True, False),
            "dropout_rates": (0.0,),
            "strides": (1,),
            "first_block_has_b": True,
            "pool_stride": 2,
            "min_side": 1,
            "whitening": False,
            "head_pool": "average",
        },
    )
)
FREE = jnp.array([True, False, True, True])
NUM_CHOICES = jnp.array([3, 7, 2, 5])
TEMPLATE = jnp.array([2, 4, 1, 0])
sample = jax.jit(sample_genes)


def first_block(**changes: Any) -> dict[str, Any]:
    row = np.array([1, 2, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0])
    return {**SPACE.to_values(row, 0), **changes}


def test_extended_appends_a_row_and_leaves_the_old_chromosome_alone() -> None:
    short = Chromosome(np.array([[1, 2, 3]], np.int32))
    long = short.extended(np.array([4, 5, 6], np.int32))
    assert (short.num_blocks, long.num_blocks) == (1, 2)
    assert short.genes.tolist() == [[1, 2, 3]]
    assert long.genes.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert long.genes.dtype == np.int32


def test_extended_by_a_row_of_jax_is_the_same() -> None:
    short = Chromosome(jnp.array([[1, 2, 3]]))
    assert short.extended(jnp.array([4, 5, 6])).genes.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (Chromosome(np.zeros((1, 3), np.int32)), "genes"),
        (Population(np.zeros((2, 3), np.int32), np.zeros(2)), "fitness"),
    ],
)
def test_chromosome_and_population_are_immutable(record: Any, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, None)


@pytest.mark.parametrize(
    "tree",
    [
        Chromosome(np.array([[1, 2, 3], [4, 5, 6]], np.int32)),
        Population(np.array([[1, 2], [3, 4]], np.int32), np.array([0.5, np.nan])),
    ],
)
def test_chromosome_and_population_round_trip_as_pytrees(tree: Any) -> None:
    leaves, structure = jax.tree.flatten(tree)
    back = jax.tree.unflatten(structure, leaves)
    assert type(back) is type(tree)
    assert len(leaves) == len(dataclasses.fields(tree))
    for field in dataclasses.fields(tree):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(tree, field.name))


def test_population_passes_through_jit_and_vmap() -> None:
    population = Population(jnp.array([[1, 2], [3, 4]]), jnp.array([0.5, 0.25]))
    doubled = jax.jit(jax.vmap(lambda one: Population(one.genes * 2, one.fitness)))(population)
    assert doubled.genes.tolist() == [[2, 4], [6, 8]]
    assert doubled.fitness.tolist() == [0.5, 0.25]


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_sample_genes_stays_within_the_choices_and_keeps_the_template(seed: int) -> None:
    row = np.asarray(sample(jax.random.key(seed), NUM_CHOICES, FREE, TEMPLATE))
    assert row[1] == 4
    assert np.all((row >= 0) & (row < np.asarray(NUM_CHOICES)))


def test_sample_genes_over_many_keys_is_uniform_over_each_free_genes_choices() -> None:
    num_keys = 20_000
    keys = jax.random.split(jax.random.key(1), num_keys)
    rows = np.asarray(jax.vmap(sample_genes, in_axes=(0, None, None, None))(keys, NUM_CHOICES, FREE, TEMPLATE))
    for gene, num_choices in [(0, 3), (2, 2), (3, 5)]:
        shares = np.bincount(rows[:, gene], minlength=num_choices) / num_keys
        error = np.sqrt((1 - 1 / num_choices) / num_choices / num_keys)
        np.testing.assert_allclose(shares, 1 / num_choices, rtol=0, atol=5 * error)
    pairs = np.bincount(rows[:, 2] * 5 + rows[:, 3], minlength=10) / num_keys  # genes are drawn independently
    np.testing.assert_allclose(pairs, 0.1, rtol=0, atol=5 * np.sqrt(0.09 / num_keys))


def test_sample_genes_with_the_same_key_is_the_same_under_jit_and_vmap() -> None:
    keys = jax.random.split(jax.random.key(2), 8)
    plain = [sample_genes(key, NUM_CHOICES, FREE, TEMPLATE).tolist() for key in keys]
    assert [sample(key, NUM_CHOICES, FREE, TEMPLATE).tolist() for key in keys] == plain
    lifted = jax.vmap(sample_genes, in_axes=(0, None, None, None))(keys, NUM_CHOICES, FREE, TEMPLATE)
    assert lifted.tolist() == plain
    assert len({tuple(row) for row in plain}) > 1


@pytest.mark.parametrize(("free", "expected"), [(True, {0, 1}), (False, {1})])
def test_sample_genes_of_a_single_gene_covers_its_choices_if_free(free: bool, expected: set[int]) -> None:
    keys = jax.random.split(jax.random.key(3), 64)
    rows = [sample(key, np.array([2]), np.array([free]), np.array([1])).tolist() for key in keys]
    assert {row[0] for row in rows} == expected


def test_to_values_names_the_genes_of_each_block() -> None:
    rows = np.array([[1, 2, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0, 1, 2, 0, 0, 1, 0, 0]], np.int32)
    first, second = to_values(SPACE, Chromosome(rows))
    assert first == {
        "activation": "elu",
        "a_channels": 32,
        "a_kernel": 3,
        "a_batch_norm": True,
        "include_pool": True,
        "pool_type": "average",
        "include_b": True,
        "b_channels": 8,
        "b_kernel": 3,
        "b_batch_norm": False,
        "include_skip": True,
        "dropout_rate": 0.0,
        "a_stride": 1,
    }
    assert (second["include_b"], second["b_channels"], second["activation"]) == (False, 32, "elu")


@settings(deadline=None, derandomize=True)
@given(data=st.data(), num_blocks=st.integers(1, 4))
def test_from_values_of_to_values_describes_the_same_network(data: st.DataObject, num_blocks: int) -> None:
    row = st.tuples(*(st.integers(0, n - 1) for n in SPACE.num_choices.tolist()))
    rows = np.array(data.draw(st.lists(row, min_size=num_blocks, max_size=num_blocks)), np.int32)
    rows[:, 0] = rows[0, 0]  # the activation is inherited
    values = to_values(SPACE, Chromosome(rows))
    back = from_values(SPACE, values)
    assert back.genes.dtype == np.int32
    assert to_values(SPACE, back) == values


def test_from_values_takes_inherited_genes_from_the_first_block() -> None:
    later = {name: value for name, value in first_block(include_b=False).items() if name != "activation"}
    blocks = to_values(SPACE, from_values(SPACE, [first_block(), later, later]))
    assert [block["activation"] for block in blocks] == ["elu", "elu", "elu"]


def test_from_values_of_no_blocks_is_a_chromosome_of_none_that_can_be_extended() -> None:
    empty = from_values(SPACE, [])
    assert (empty.genes.shape, empty.genes.dtype) == ((0, SPACE.num_genes), np.int32)
    assert to_values(SPACE, empty) == []
    row = SPACE.to_indices(first_block(), 0)
    assert to_values(SPACE, empty.extended(row)) == [first_block()]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([first_block(a_kernel=9)], r"chromosome\.a_kernel=9: must be one of \(1, 3\)"),
        ([first_block(), {}], r"chromosome\.a_channels=None: is missing; give one of \(8, 16, 32\)"),
        ([first_block(), first_block(nope=1)], r"chromosome\.nope=1: unknown gene"),
    ],
)
def test_from_values_of_blocks_outside_the_space_says_why_in_one_line(blocks: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        from_values(SPACE, blocks)
