"""From genes to a network: what each gene becomes, and that inert genes leave no trace."""

import dataclasses
from typing import Any

import pytest

from tests.genes import GENES as COMMON
from vlga_jax.genome.chromosome import Chromosome, from_values
from vlga_jax.genome.space import SpaceConfig, make_search_space
from vlga_jax.network.decode import decode
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec

SPACE = make_search_space(
    SpaceConfig(
        activations=("relu", "elu"),
        channels=(4, 8),
        kernels=(1, 3),
        batch_norm=(True, False),
        include_pool=(True, False),
        pool_types=("max", "average"),
        include_b=(True, False),
        include_skip=(True, False),
        dropout_rates=(0.0, 0.25),
        strides=(1, 2, 4),
        first_block_has_b=True,
        pool_stride=2,
        min_side=1,
        whitening=False,
        head_pool="average",
    )
)
GENES = {**COMMON, "dropout_rate": 0.0, "a_stride": 1}


def network(
    *blocks: dict[str, Any], input_shape: tuple[int, int, int] = (9, 9, 3), pool_stride: int = 2, **settings: Any
) -> NetworkSpec:
    """The decoded network of blocks that differ from GENES as given."""
    chromosome = from_values(SPACE, [{**GENES, **block} for block in blocks])
    settings["pool_stride"] = pool_stride
    return decode(SPACE, chromosome, input_shape=input_shape, num_classes=5, head_pool="max", **settings)


def test_decode_of_two_blocks_is_the_network_written_by_hand() -> None:
    second = {"include_pool": False, "include_skip": False, "b_kernel": 3, "a_stride": 2}
    assert network({}, second) == NetworkSpec(
        input_shape=(9, 9, 3),
        num_classes=5,
        activation="elu",
        head_pool="max",
        blocks=(
            BlockSpec(ConvSpec(8, 3, True), PoolSpec("average", 2), ConvSpec(4, 1, False), True, 0.0),
            BlockSpec(ConvSpec(8, 3, True, 2), None, ConvSpec(4, 3, False), False, 0.0),
        ),
    )


@pytest.mark.parametrize("place", [0, 1])
def test_decode_without_pool_forgets_the_pool_type(place: int) -> None:
    different: list[dict[str, Any]] = [{}, {}]
    different[place] = {"include_pool": False}
    other = [{**genes, "pool_type": "max"} if genes else {} for genes in different]
    assert network(*different) == network(*other)
    assert network(*different).blocks[place].pool is None


def test_decode_without_b_forgets_its_genes() -> None:
    plain = network({}, {"include_b": False})
    assert plain.blocks[1].b is None
    for gene in ({"b_channels": 8}, {"b_kernel": 3}, {"b_batch_norm": True}):
        assert network({}, {"include_b": False, **gene}) == plain


@pytest.mark.parametrize(
    "gene",
    [{"a_channels": 4}, {"a_kernel": 1}, {"a_batch_norm": False}, {"pool_type": "max"}, {"include_pool": False}]
    + [{"b_channels": 8}, {"b_kernel": 3}, {"b_batch_norm": True}, {"include_skip": False}, {"dropout_rate": 0.25}]
    + [{"a_stride": 2}, {"a_stride": 4}],
)
def test_decode_of_an_expressed_gene_changes_the_network(gene: dict[str, Any]) -> None:
    assert network({}, gene) != network({}, {})


def test_decode_of_a_pool_on_a_single_pixel_leaves_no_trace() -> None:
    on_one_pixel = network({}, {}, {"pool_type": "max"}, input_shape=(4, 4, 3))  # 4 to 2 to 1 pixels
    assert [block.pool is None for block in on_one_pixel.blocks] == [False, False, True]
    assert on_one_pixel == network({}, {}, {"include_pool": False}, input_shape=(4, 4, 3))


def test_decode_of_a_pool_on_a_row_of_pixels_keeps_it() -> None:
    assert network({}, input_shape=(1, 2, 3)).blocks[0].pool == PoolSpec("average", 2)


@pytest.mark.parametrize(
    ("side", "min_side", "sides"),
    [
        (32, 1, [16, 8, 4, 2]),
        (32, 4, [16, 8, 4, 4]),
        (32, 5, [16, 8, 8, 8]),
        (9, 5, [5, 5, 5, 5]),
        (9, 6, [9, 9, 9, 9]),
        (4, 8, [4, 4, 4, 4]),
    ],
)
def test_decode_of_pools_leaves_maps_of_the_least_side(side: int, min_side: int, sides: list[int]) -> None:
    pooled = network({}, {}, {}, {}, input_shape=(side, side, 3), min_side=min_side)
    assert [pooled.shape_before(block)[0] for block in range(1, 5)] == sides
    assert all(block.pool is not None for block in pooled.blocks)  # where it may not shrink the map it has stride 1


def test_decode_of_the_least_side_looks_at_the_longer_one() -> None:
    assert network({}, input_shape=(2, 16, 3), min_side=8).blocks[0].pool == PoolSpec("average", 2)
    assert network({}, input_shape=(2, 16, 3), min_side=9).blocks[0].pool == PoolSpec("average", 1)


@pytest.mark.parametrize(("min_side", "strides"), [(1, (4, 2)), (4, (3, 1)), (5, (2, 1)), (6, (1, 1)), (9, (1, 1))])
def test_decode_of_a_stride_and_a_pool_leaves_a_map_of_the_least_side(min_side: int, strides: tuple[int, int]) -> None:
    block = network({"a_stride": 4}, input_shape=(10, 10, 3), min_side=min_side).blocks[0]
    assert (block.a.stride, block.pool.stride if block.pool else 0) == strides


def test_decode_of_a_stride_on_a_single_pixel_leaves_no_trace() -> None:
    on_one_pixel = network({}, {}, {"a_stride": 4}, input_shape=(4, 4, 3))  # 4 to 2 to 1 pixels
    assert on_one_pixel == network({}, {}, {"a_stride": 1}, input_shape=(4, 4, 3))
    assert on_one_pixel.blocks[2].a.stride == 1


@pytest.mark.parametrize(
    ("height", "width", "stride", "decoded"),
    [(2, 2, 4, 2), (3, 3, 4, 3), (1, 2, 4, 2), (3, 2, 4, 3), (4, 4, 4, 4), (1, 9, 4, 4), (2, 2, 2, 2), (3, 3, 2, 2)],
)
def test_decode_of_a_stride_beyond_the_map_is_its_longer_side(
    height: int, width: int, stride: int, decoded: int
) -> None:
    assert network({"a_stride": stride}, input_shape=(height, width, 3)).blocks[0].a.stride == decoded


def test_decode_of_a_pool_after_a_stride_that_leaves_one_pixel_leaves_no_trace() -> None:
    strided = network({"a_stride": 4}, input_shape=(4, 3, 3))
    assert strided == network({"a_stride": 4, "include_pool": False}, input_shape=(4, 3, 3))
    assert strided.blocks[0].pool is None
    assert network({"a_stride": 4}, input_shape=(5, 3, 3)).blocks[0].pool == PoolSpec("average", 2)


def test_decode_of_no_blocks_is_one_network_with_the_spaces_first_activation() -> None:
    assert network() == NetworkSpec((9, 9, 3), 5, "relu", "max", ())


@pytest.mark.parametrize("stride", [1, 2])
def test_decode_gives_pools_the_stride_of_the_space(stride: int) -> None:
    assert network({}, {}, pool_stride=stride).blocks[1].pool == PoolSpec("average", stride)


def test_decode_of_the_first_block_always_has_b() -> None:
    genes = network({}, {})
    place = [gene.name for gene in SPACE.genes].index("include_b")
    rows = from_values(SPACE, [GENES, GENES]).genes.copy()
    rows[0, place] = 1  # the index of False
    spec = decode(SPACE, Chromosome(rows), input_shape=(9, 9, 3), num_classes=5, pool_stride=2, head_pool="max")
    assert spec == genes
    rows[1, place] = 1
    spec = decode(SPACE, Chromosome(rows), input_shape=(9, 9, 3), num_classes=5, pool_stride=2, head_pool="max")
    assert [block.b is None for block in spec.blocks] == [False, True]


def test_decode_of_a_first_block_whose_gene_decides_may_lack_b() -> None:
    place = SPACE.place("include_b")
    genes = (*SPACE.genes[:place], dataclasses.replace(SPACE.genes[place], first_block=None), *SPACE.genes[place + 1 :])
    space = dataclasses.replace(SPACE, genes=genes)
    chromosome = from_values(space, [{**GENES, "include_b": False}, GENES])
    spec = decode(space, chromosome, input_shape=(9, 9, 3), num_classes=5, pool_stride=2, head_pool="max")
    assert [block.b is None for block in spec.blocks] == [True, False]


def test_decode_carries_the_dropout_rate_of_each_block() -> None:
    spec = network({}, {"dropout_rate": 0.25})
    assert [block.dropout_rate for block in spec.blocks] == [0.0, 0.25]


def test_decode_takes_the_activation_of_the_first_block() -> None:
    assert network({"activation": "relu"}, {"activation": "relu"}).activation == "relu"
    assert network({"activation": "elu"}, {}).activation == "elu"


def test_decode_of_equal_chromosomes_hashes_alike() -> None:
    one, other = network({}, {}), network({}, {})
    assert hash(one) == hash(other)
    assert hash(dataclasses.replace(one, num_classes=6)) != hash(one)
