from typing import Any

import jax
import numpy as np
import pytest

from experiments import default
from vlga_jax.checks import InputError, parse
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.fixed_length import FixedLength
from vlga_jax.genome.space import SearchSpace, SpaceConfig, make_search_space


def space_with(**changes: Any) -> SearchSpace:
    return make_search_space(parse(SpaceConfig, {**default.get_config().space.to_dict(), **changes}))


def num_convolutions(blocks: list[dict[str, Any]]) -> int:
    return sum(2 if block["include_b"] else 1 for block in blocks)


@pytest.mark.parametrize(("length", "num_blocks"), [(2, 1), (3, 2), (4, 2), (5, 3), (10, 5)])
def test_sample_has_the_length_and_one_activation(length: int, num_blocks: int) -> None:
    genome = FixedLength(space_with(), length)
    activations = set()
    for seed in range(20):
        chromosome = genome.chromosome(genome.sample(jax.random.key(seed)))
        blocks = to_values(genome.space, chromosome)
        assert (len(blocks), num_convolutions(blocks)) == (num_blocks, length)
        assert len({block["activation"] for block in blocks}) == 1
        activations.add(blocks[0]["activation"])
    assert len(activations) == 3


def test_sample_draws_every_free_gene_uniformly(assert_shares: Any) -> None:
    genome = FixedLength(space_with(), 3)
    rows = np.stack([genome.sample(jax.random.key(seed)) for seed in range(1000)])
    for place in np.flatnonzero(genome.free):
        counts = np.bincount(rows[:, place], minlength=genome.num_choices[place])
        assert_shares(counts, len(rows), np.full(genome.num_choices[place], 1 / genome.num_choices[place]))
    fixed = rows[:, ~genome.free]
    assert (fixed == fixed[0]).all()


def test_free_is_every_gene_but_those_of_length_and_inherited_ones_of_later_blocks() -> None:
    genome = FixedLength(space_with(), 3)
    names = [gene.name for gene in genome.space.genes]
    first, second = genome.free.reshape(2, -1)
    single = {name for name, gene in zip(names, genome.space.genes, strict=True) if len(gene.choices) == 1}
    assert {name for name, is_free in zip(names, first, strict=True) if not is_free} == single | {"include_b"}
    assert {name for name, is_free in zip(names, second, strict=True) if not is_free} == single | {
        "include_b",
        "activation",
    }


@pytest.mark.parametrize(("include_b", "length"), [((True,), 3), ((False,), 4), ((False,), 5)])
def test_length_that_the_space_forbids_is_an_input_error(include_b: tuple[bool, ...], length: int) -> None:
    with pytest.raises(InputError, match=r"config\.space\.include_b"):
        FixedLength(space_with(include_b=include_b), length)


@pytest.mark.parametrize("include_b", [(True, False), (False, True)])
@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_first_block_whose_gene_decides_still_has_two_convolutions(length: int, include_b: tuple[bool, ...]) -> None:
    genome = FixedLength(space_with(first_block_has_b=False, include_b=include_b), length)
    assert not genome.free.reshape(genome.num_blocks, -1)[:, genome.space.place("include_b")].any()
    for seed in range(20):
        blocks = to_values(genome.space, genome.chromosome(genome.sample(jax.random.key(seed))))
        expected = [True] * (length // 2) + [False] * (length % 2)
        assert [block["include_b"] for block in blocks] == expected


def test_first_block_whose_gene_cannot_have_b_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"config\.space\.include_b.*must hold true for networks of 2 convolutions"):
        FixedLength(space_with(first_block_has_b=False, include_b=(False,)), 2)
    assert FixedLength(space_with(include_b=(False,)), 2).num_blocks == 1, "a first block always has b otherwise"


def test_length_below_two_is_an_input_error() -> None:
    with pytest.raises(InputError, match="num_convolutions"):
        FixedLength(space_with(), 1)
