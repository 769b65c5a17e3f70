"""What a network is on paper: JSON both ways, shapes, and costs counted against the true tree and by hand."""

import dataclasses
import json
import math
from typing import Any

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec, count_flops, count_parameters, from_json

convs = st.tuples(st.integers(1, 6), st.sampled_from((1, 3, 5)), st.booleans())
strided = st.tuples(st.integers(1, 6), st.sampled_from((1, 3, 5)), st.booleans(), st.integers(1, 4))
pools = st.tuples(st.sampled_from(("max", "average")), st.sampled_from((1, 2)))
blocks = st.tuples(strided, st.none() | pools, st.none() | convs, st.booleans(), st.sampled_from((0.0, 0.25)))
networks = st.tuples(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    st.integers(2, 11),
    st.sampled_from(("relu", "elu", "leaky_relu", "tanh", "selu")),
    st.sampled_from(("average", "max")),
    st.lists(blocks, max_size=3),
    st.booleans(),
)


def built(network: Any) -> NetworkSpec:
    """The spec of drawn values; not built while drawing, because the shape checker's use of `random` disturbs that."""
    input_shape, num_classes, activation, head_pool, blocks, whitening = network
    specs = [
        BlockSpec(ConvSpec(*a), pool and PoolSpec(*pool), b and ConvSpec(*b), skip, rate)
        for a, pool, b, skip, rate in blocks
    ]
    return NetworkSpec(input_shape, num_classes, activation, head_pool, tuple(specs), whitening)


# 5x7 images of 3 channels; max pool of stride 2 to 3x4, then average pool of stride 1, then nothing.
ODD = NetworkSpec(
    input_shape=(5, 7, 3),
    num_classes=10,
    activation="relu",
    head_pool="average",
    blocks=(
        BlockSpec(ConvSpec(4, 3, True), PoolSpec("max", 2), ConvSpec(6, 1, False), True, 0.0),
        BlockSpec(ConvSpec(2, 5, False), PoolSpec("average", 1), None, True, 0.25),
        BlockSpec(ConvSpec(8, 1, False), None, None, False, 0.0),
    ),
)


# 7x9 images of 2 channels; a of stride 2 to 4x5, then average pool of stride 2 to 2x3.
STRIDED = NetworkSpec(
    input_shape=(7, 9, 2),
    num_classes=4,
    activation="relu",
    head_pool="average",
    blocks=(BlockSpec(ConvSpec(3, 3, True, 2), PoolSpec("average", 2), ConvSpec(5, 1, True), True, 0.0),),
)
EMPTY = NetworkSpec((7, 9, 2), 4, "relu", "average", ())


@settings(derandomize=True, deadline=None, max_examples=200)
@given(network=networks)
def test_from_json_of_a_written_spec_is_equal_and_hashes_alike(network: Any) -> None:
    spec = built(network)
    read = from_json(json.loads(json.dumps(spec.to_json())))
    assert read == spec
    assert hash(read) == hash(spec)
    assert len({read, spec}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"input_shape": (7, 5, 3)},
        {"num_classes": 11},
        {"activation": "elu"},
        {"head_pool": "max"},
        {"whitening": True},
        {"blocks": ODD.blocks[:2]},
        {"blocks": (dataclasses.replace(ODD.blocks[0], skip=False), *ODD.blocks[1:])},
        {"blocks": (dataclasses.replace(ODD.blocks[0], pool=PoolSpec("average", 2)), *ODD.blocks[1:])},
        {"blocks": (dataclasses.replace(ODD.blocks[0], a=ConvSpec(4, 3, False)), *ODD.blocks[1:])},
        {"blocks": (dataclasses.replace(ODD.blocks[0], a=ConvSpec(4, 3, True, 2)), *ODD.blocks[1:])},
        {"blocks": ()},
    ],
)
def test_to_json_of_different_specs_differs(change: dict[str, object]) -> None:
    other = dataclasses.replace(ODD, **change)  # type: ignore[arg-type]
    assert other != ODD
    assert json.dumps(other.to_json()) != json.dumps(ODD.to_json())


def test_from_json_of_a_file_that_says_no_stride_has_stride_one() -> None:
    written = ODD.to_json()
    for block in written["blocks"]:
        for conv in (block["a"], block["b"]):
            if conv:
                assert conv.pop("stride") == 1
    assert from_json(written) == ODD


def test_from_json_of_a_file_that_says_nothing_of_whitening_has_none() -> None:
    written = ODD.to_json()
    assert written.pop("whitening") is False
    assert from_json(written) == ODD


def test_block_spec_of_a_stride_of_convolution_b_is_an_error() -> None:
    with pytest.raises(ValueError, match="convolution b has stride 2"):
        BlockSpec(ConvSpec(4, 3, True), None, ConvSpec(4, 3, True, 2), False, 0.0)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(network=networks)
def test_count_parameters_of_any_spec_is_the_size_of_its_tree(network: Any) -> None:
    spec = built(network)
    leaves = jax.tree.leaves(variable_shapes(spec)["params"])
    assert count_parameters(spec) == sum(math.prod(leaf.shape) for leaf in leaves)


def test_count_parameters_worked_by_hand() -> None:
    block_0 = (3 * 3 * 3 * 4 + 4 + 4) + (4 * 6 + 6) + (3 * 6 + 6)  # a with scale and offset; b and skip with bias
    block_1 = (5 * 5 * 6 * 2 + 2) + (6 * 2 + 2)
    block_2 = 2 * 8 + 8
    assert count_parameters(ODD) == block_0 + block_1 + block_2 + 8 * 10 + 10


def test_count_flops_worked_by_hand() -> None:
    block_0 = 5 * 7 * (3 * 3 * 3 * 4) + 3 * 4 * (4 * 6) + 3 * 4 * (3 * 6)  # a before the pool; b and skip after it
    block_1 = 3 * 4 * (5 * 5 * 6 * 2) + 3 * 4 * (6 * 2)
    block_2 = 3 * 4 * (2 * 8)
    assert [ODD.block_flops(block) for block in range(3)] == [2 * block_0, 2 * block_1, 2 * block_2]
    assert count_flops(ODD) == 2 * (block_0 + block_1 + block_2 + 8 * 10)


def test_counts_of_a_strided_block_worked_by_hand() -> None:
    a, b, skip, head = 3 * 3 * 2 * 3, 3 * 5, 2 * 5, 5 * 4
    assert count_parameters(STRIDED) == a + 2 * 3 + b + 2 * 5 + skip + 5 + head + 4
    assert count_flops(STRIDED) == 2 * (4 * 5 * a + 2 * 3 * b + 2 * 3 * skip + head)


def test_whitened_network_starts_from_four_times_the_channels_worked_by_hand() -> None:
    white = dataclasses.replace(ODD, whitening=True)
    assert [white.shape_before(block) for block in range(3)] == [(5, 7, 12), (3, 4, 6), (3, 4, 2)]
    a, skip = 3 * 3 * (12 - 3) * 4, (12 - 3) * 6  # what more channels add
    assert count_parameters(white) == count_parameters(ODD) + a + skip
    assert white.whitening_flops == 2 * 5 * 7 * 12 * 12 and ODD.whitening_flops == 0
    more = 2 * (5 * 7 * a + 3 * 4 * skip)
    assert white.block_flops(0) == ODD.block_flops(0) + more
    assert count_flops(white) == count_flops(ODD) + more + white.whitening_flops
    assert white.suffix(0) == white
    assert white.suffix(1) == ODD.suffix(1), "what follows sees no images"


def test_network_without_blocks_is_a_dense_layer_of_its_channels() -> None:
    assert EMPTY.shape_before(0) == (7, 9, 2)
    assert EMPTY.suffix(0) == EMPTY
    assert (count_parameters(EMPTY), count_flops(EMPTY)) == (2 * 4 + 4, 2 * 2 * 4)
    head_alone = ODD.suffix(3)
    assert (head_alone.input_shape, head_alone.blocks) == ((3, 4, 8), ())


def test_shape_before_with_odd_sizes_rounds_up() -> None:
    assert [ODD.shape_before(block) for block in range(4)] == [(5, 7, 3), (3, 4, 6), (3, 4, 2), (3, 4, 8)]


@pytest.mark.parametrize(
    ("stride", "in_size", "out_size"), [(1, 1, 1), (1, 5, 5), (2, 1, 1), (2, 2, 1), (2, 5, 3), (2, 6, 3)]
)
def test_out_shape_by_stride_and_size(stride: int, in_size: int, out_size: int) -> None:
    block = BlockSpec(ConvSpec(4, 3, True), PoolSpec("max", stride), None, False, 0.0)
    assert block.out_shape((in_size, 8, 3)) == (out_size, 8 // stride, 4)


@pytest.mark.parametrize("a_stride", [1, 2, 3, 4])
@pytest.mark.parametrize("pool_stride", [1, 2])
def test_out_shape_rounds_up_after_a_and_again_after_the_pool(a_stride: int, pool_stride: int) -> None:
    block = BlockSpec(ConvSpec(4, 3, True, a_stride), PoolSpec("max", pool_stride), None, False, 0.0)
    assert block.stride == a_stride * pool_stride
    for size in range(1, 50):
        after_a = math.ceil(size / a_stride)
        assert block.a.out_shape((size, 2 * size, 3)) == (after_a, math.ceil(2 * size / a_stride), 4)
        assert block.out_shape((size, 1, 3)) == (math.ceil(after_a / pool_stride), 1, 4)


def test_out_shape_without_pool_keeps_the_size() -> None:
    assert BlockSpec(ConvSpec(4, 3, True), None, ConvSpec(9, 3, True), False, 0.0).out_shape((5, 7, 3)) == (5, 7, 9)


def test_suffix_starts_from_the_shape_before_it() -> None:
    suffix = ODD.suffix(1)
    assert suffix == dataclasses.replace(ODD, input_shape=(3, 4, 6), blocks=ODD.blocks[1:])
    assert ODD.suffix(0) == ODD


def test_count_parameters_of_prefix_and_suffix_add_up() -> None:
    prefix = dataclasses.replace(ODD, blocks=ODD.blocks[:1])
    head_of_prefix = 6 * 10 + 10
    assert count_parameters(prefix) - head_of_prefix + count_parameters(ODD.suffix(1)) == count_parameters(ODD)
