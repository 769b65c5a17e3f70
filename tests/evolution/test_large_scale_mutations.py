"""Each mutation by hand: every child that it can make of a small parent, and the parents that it cannot change."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from vlga_jax.evolution.large_scale_mutations import (
    Individual,
    Mutation,
    add_skip,
    alter_channels,
    alter_kernel,
    alter_learning_rate,
    alter_stride,
    identity,
    insert_convolution,
    insert_one_to_one,
    make_initial,
    mutate,
    remove_convolution,
    remove_skip,
    reset_weights,
)
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import Choice, Gene, SearchSpace
from vlga_jax.keys import stream

AssertShares = Callable[[object, int, object], None]
Block = tuple[int, int, bool, int, bool]
"""Channels, kernel, batch normalisation, stride, skip."""

SPACE = SearchSpace(
    (
        Gene("activation", ("relu", "elu", "tanh"), inherited=True),
        Gene("a_channels", (8, 16, 32)),
        Gene("a_kernel", (5, 1, 3)),
        Gene("a_batch_norm", (True, False)),
        Gene("a_stride", (1, 2, 4)),
        Gene("include_pool", (True, False)),
        Gene("pool_type", ("max",)),
        Gene("include_b", (True, False)),
        Gene("b_channels", (8,)),
        Gene("b_kernel", (5,)),
        Gene("b_batch_norm", (True,)),
        Gene("include_skip", (True, False)),
        Gene("dropout_rate", (0.5, 0.0)),
    )
)
WIDE: Block = (32, 5, True, 1, False)
NARROW: Block = (16, 1, False, 4, True)
ZEROS = Individual(0, ((0,) * 13,))
NUM_KEYS = 60
ALWAYS = {"alter_learning_rate", "identity", "reset_weights"}
GROWING = {"insert_convolution", "insert_one_to_one"}
NEED_A_BLOCK = (remove_convolution, alter_stride, alter_channels, alter_kernel, add_skip, remove_skip)


def space_with(**choices: tuple[Choice, ...]) -> SearchSpace:
    genes = tuple(dataclasses.replace(gene, choices=choices.get(gene.name, gene.choices)) for gene in SPACE.genes)
    return SearchSpace(genes)


def network(*blocks: Block, activation: str = "elu", **more: Any) -> Individual:
    rows = []
    for channels, kernel, batch_norm, stride, skip in blocks:
        values = {
            "activation": activation,
            "a_channels": channels,
            "a_kernel": kernel,
            "a_batch_norm": batch_norm,
            "a_stride": stride,
            "include_pool": False,
            "include_b": False,
            "include_skip": skip,
            "dropout_rate": 0.0,
        }
        rows.append(tuple(SPACE.to_indices(values, 0).tolist()))
    return Individual(SPACE.genes[0].choices.index(activation), tuple(rows), **more)


def children(mutation: Mutation, parent: Individual, space: SearchSpace = SPACE) -> set[Individual]:
    """Returns the children of many keys, of which none may be None."""
    made = {mutation(key, parent, space) for key in jax.random.split(jax.random.key(0), NUM_KEYS)}
    assert None not in made
    return {child for child in made if child is not None}


def test_make_initial_draws_an_activation_and_no_convolutions(assert_shares: AssertShares) -> None:
    drawn = [make_initial(key, SPACE) for key in jax.random.split(jax.random.key(0), 300)]
    assert {(one.rows, one.learning_rate_factor, one.sources) for one in drawn} == {((), 1.0, None)}
    assert_shares(np.bincount([one.activation for one in drawn], minlength=3), 300, 1 / 3)
    genes = drawn[0].chromosome(SPACE).genes
    assert (genes.shape, genes.dtype) == ((0, 13), np.int32)


def test_alter_learning_rate_follows_its_draw_to_six_digits() -> None:
    key, parent = jax.random.key(3), network(WIDE, learning_rate_factor=0.5)
    share = float(jax.random.uniform(stream(key, "learning_rate")))
    child = alter_learning_rate(key, parent, SPACE)
    # Between 2**-2 and 2**0.
    assert child == network(WIDE, learning_rate_factor=float(f"{2 ** (2 * share - 2):.6g}"), sources=(0,))
    assert 0.25 < child.learning_rate_factor < 1 and child.learning_rate_factor != 0.5


@pytest.mark.parametrize(
    ("factor", "low", "high"),
    [(1.0, -1, 1), (3.0, math.log2(1.5), math.log2(6)), (1024.0, 9, 10), (2.0**-10, -10, -9), (768.0, 8.584963, 10)],
)
def test_alter_learning_rate_is_log_uniform_within_its_bounds(
    factor: float, low: float, high: float, assert_shares: AssertShares
) -> None:
    parent, keys = network(learning_rate_factor=factor), jax.random.split(jax.random.key(1), 800)
    drawn = [alter_learning_rate(key, parent, SPACE).learning_rate_factor for key in keys]
    assert all(value == float(f"{value:.6g}") or value == 2.0**-10 for value in drawn)
    assert min(drawn) >= 2.0**-10 and max(drawn) <= 2.0**10
    exponents = np.log2(drawn)
    assert low - 1e-5 < exponents.min() and exponents.max() < high + 1e-5
    quarters = np.clip((exponents - low) / (high - low) * 4, 0, 3.999).astype(int)
    assert_shares(np.bincount(quarters, minlength=4), len(keys), 1 / 4)


@pytest.mark.parametrize(("blocks", "sources"), [((), ()), ((WIDE, NARROW), (0, 1))])
def test_identity_and_reset_weights_change_the_sources_alone(
    blocks: tuple[Block, ...], sources: tuple[int, ...]
) -> None:
    parent = network(*blocks, learning_rate_factor=2.0, sources=(None,) * len(blocks))
    assert children(identity, parent) == {network(*blocks, learning_rate_factor=2.0, sources=sources)}
    assert children(reset_weights, parent) == {network(*blocks, learning_rate_factor=2.0, sources=None)}


def test_insert_convolution_of_none_makes_one_of_the_fewest_channels() -> None:
    made = children(insert_convolution, network(activation="tanh"))
    assert made == {
        network((8, 3, batch_norm, stride, False), activation="tanh", sources=(None,))
        for batch_norm in (True, False)
        for stride in (1, 2, 4)
    }


def test_insert_convolution_takes_any_place_and_the_channels_that_come_in() -> None:
    space = space_with(a_stride=(1,), a_batch_norm=(True,))
    made = children(insert_convolution, network(WIDE, NARROW, learning_rate_factor=4.0), space)
    assert made == {
        network((8, 3, True, 1, False), WIDE, NARROW, learning_rate_factor=4.0, sources=(None, 0, 1)),
        network(WIDE, (32, 3, True, 1, False), NARROW, learning_rate_factor=4.0, sources=(0, None, 1)),
        network(WIDE, NARROW, (16, 3, True, 1, False), learning_rate_factor=4.0, sources=(0, 1, None)),
    }


def test_insert_one_to_one_adds_the_smallest_layer_anywhere() -> None:
    assert children(insert_one_to_one, network()) == {network((8, 1, False, 1, False), sources=(None,))}
    assert children(insert_one_to_one, network(WIDE)) == {
        network((8, 1, False, 1, False), WIDE, sources=(None, 0)),
        network(WIDE, (32, 1, False, 1, False), sources=(0, None)),
    }


@pytest.mark.parametrize(
    ("kernels", "three", "one"), [((5, 1), 1, 1), ((9, 7), 7, 7), ((5, 3), 3, 3), ((1, 3, 5), 3, 1)]
)
def test_inserted_kernel_is_the_nearest_choice_the_smaller_of_two(
    kernels: tuple[int, ...], three: int, one: int
) -> None:
    space = space_with(a_kernel=kernels, a_stride=(2, 4), a_batch_norm=(True,), include_skip=(True,))
    for mutation, kernel in ((insert_convolution, three), (insert_one_to_one, one)):
        for child in children(mutation, Individual(0), space):
            (values,) = to_values(space, child.chromosome(space))
            assert values["a_kernel"] == kernel
            assert values["a_stride"] == 2 or mutation is insert_convolution
            assert values["a_batch_norm"] is values["include_skip"] is True, "the only choices"


def test_remove_convolution_takes_any_and_keeps_the_others_weights() -> None:
    assert children(remove_convolution, network(WIDE, NARROW, WIDE)) == {
        network(NARROW, WIDE, sources=(1, 2)),
        network(WIDE, WIDE, sources=(0, 2)),
        network(WIDE, NARROW, sources=(0, 1)),
    }
    assert children(remove_convolution, network(WIDE)) == {network(sources=())}


@pytest.mark.parametrize(
    ("mutation", "changed"),
    [
        (alter_stride, {(0, (32, 5, True, 2, False)), (1, (16, 3, False, 1, False)), (1, (16, 3, False, 4, False))}),
        (alter_channels, {(0, (16, 5, True, 1, False)), (1, (8, 3, False, 2, False)), (1, (32, 3, False, 2, False))}),
        (alter_kernel, {(0, (32, 3, True, 1, False)), (1, (16, 1, False, 2, False)), (1, (16, 5, False, 2, False))}),
    ],
)
def test_alter_takes_one_blocks_neighbour_by_size_not_by_place_among_the_choices(
    mutation: Mutation, changed: set[tuple[int, Block]]
) -> None:
    largest_and_middle: tuple[Block, Block] = ((32, 5, True, 1, False), (16, 3, False, 2, False))
    expected = set()
    for place, block in changed:
        blocks = [*largest_and_middle]
        blocks[place] = block
        expected.add(network(*blocks, sources=(0, 1)))
    assert children(mutation, network(*largest_and_middle)) == expected


def test_add_skip_and_remove_skip_toggle_one_block() -> None:
    parent = network(WIDE, NARROW, WIDE)
    skipped, bare = (*WIDE[:4], True), (*NARROW[:4], False)
    assert children(add_skip, parent) == {
        network(skipped, NARROW, WIDE, sources=(0, 1, 2)),
        network(WIDE, NARROW, skipped, sources=(0, 1, 2)),
    }
    assert children(remove_skip, parent) == {network(WIDE, bare, WIDE, sources=(0, 1, 2))}


@pytest.mark.parametrize(
    ("mutation", "parent", "space"),
    [
        *((mutation, network(), SPACE) for mutation in NEED_A_BLOCK),
        (alter_stride, ZEROS, space_with(a_stride=(1,))),
        (alter_channels, ZEROS, space_with(a_channels=(8,))),
        (alter_kernel, ZEROS, space_with(a_kernel=(3,))),
        (add_skip, network(NARROW), SPACE),
        (add_skip, ZEROS, space_with(include_skip=(False,))),
        (remove_skip, network(WIDE), SPACE),
        (remove_skip, ZEROS, space_with(include_skip=(True,))),
    ],
)
def test_mutation_of_a_parent_with_nothing_to_change_is_none(
    mutation: Mutation, parent: Individual, space: SearchSpace
) -> None:
    assert all(mutation(jax.random.key(seed), parent, space) is None for seed in range(3))


def kind(child: Individual, parent: Individual) -> str:
    """Returns which mutation made a child of a parent in SPACE; the ways in which they differ, read anew."""
    if child.sources is None:
        return "reset_weights"
    if child.learning_rate_factor != parent.learning_rate_factor:
        return "alter_learning_rate"
    new, old = (to_values(SPACE, one.chromosome(SPACE)) for one in (child, parent))
    if len(new) > len(old):
        inserted = new[child.sources.index(None)]
        return "insert_one_to_one" if inserted["a_kernel"] == 1 else "insert_convolution"
    if len(new) < len(old):
        return "remove_convolution"
    changed = [
        (name, now[name]) for now, before in zip(new, old, strict=True) for name in now if now[name] != before[name]
    ]
    if not changed:
        return "identity"
    ((name, value),) = changed
    if name == "include_skip":
        return "add_skip" if value else "remove_skip"
    return name.replace("a_", "alter_")


@pytest.mark.parametrize(
    ("parent", "max_convolutions", "possible"),
    [
        (network(), 3, ALWAYS | GROWING),
        (network(WIDE, NARROW), 3, ALWAYS | GROWING | {mutation.__name__ for mutation in NEED_A_BLOCK}),
        (network(WIDE), 1, ALWAYS | {mutation.__name__ for mutation in NEED_A_BLOCK} - {"remove_skip"}),
    ],
)
def test_mutate_draws_uniformly_among_the_mutations_that_can_be_applied(
    parent: Individual, max_convolutions: int, possible: set[str], assert_shares: AssertShares
) -> None:
    keys = jax.random.split(jax.random.key(2), 1_000)
    kinds = [kind(mutate(key, parent, SPACE, max_convolutions=max_convolutions), parent) for key in keys]
    assert set(kinds) == possible
    assert_shares([kinds.count(name) for name in sorted(possible)], len(keys), 1 / len(possible))


def test_mutate_repeatedly_stays_within_the_space_and_the_bound() -> None:
    one, sizes = make_initial(jax.random.key(0), SPACE), set()
    for step in range(400):
        parent, one = one, mutate(stream(jax.random.key(0), "step", step), one, SPACE, max_convolutions=4)
        genes = np.asarray(one.chromosome(SPACE).genes)
        assert np.all((genes >= 0) & (genes < SPACE.num_choices))
        assert set(genes[:, 0].tolist()) <= {parent.activation} == {one.activation}
        if one.sources is None:
            assert one == dataclasses.replace(parent, sources=None)
        else:
            known = [source for source in one.sources if source is not None]
            assert known == sorted(set(known)) and set(known) <= set(range(len(parent.rows)))
            assert len(one.sources) == len(one.rows)
            altered = [one.rows[row] != parent.rows[at] for row, at in enumerate(one.sources) if at is not None]
            assert sum(altered) <= 1
        sizes.add(len(one.rows))
    assert sizes == {0, 1, 2, 3, 4}


def test_mutate_of_the_same_key_is_the_same_and_of_another_is_not() -> None:
    parent = network(WIDE, NARROW)
    keys = [*jax.random.split(jax.random.key(4), 8)]
    once, twice = ([mutate(key, parent, SPACE, max_convolutions=4) for key in keys] for _ in range(2))
    assert once == twice and len(set(once)) > 4
