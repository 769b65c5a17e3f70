"""A network made wider: as wide as its operations allow, and otherwise the same."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec, count_flops
from vlga_jax.network.widening import widened

# Plain values, of which the test builds specs: a checker of shapes may draw random numbers there, a strategy must not.
CONVS = st.tuples(st.sampled_from([3, 8, 24, 64]), st.sampled_from([1, 3]), st.booleans())
BLOCKS = st.lists(st.tuples(CONVS, st.booleans(), st.none() | CONVS, st.booleans()), min_size=1, max_size=4)


def network(blocks: list[tuple[Any, bool, Any, bool]], *, whitening: bool) -> NetworkSpec:
    built = [
        BlockSpec(ConvSpec(*a), PoolSpec("max", 2) if pooled else None, ConvSpec(*b) if b else None, skip, 0.1)
        for a, pooled, b, skip in blocks
    ]
    return NetworkSpec((32, 32, 3), 10, "relu", "average", tuple(built), whitening)


def convs(spec: NetworkSpec) -> list[ConvSpec]:
    return [conv for block in spec.blocks for conv in (block.a, block.b) if conv is not None]


def like(spec: NetworkSpec, other: NetworkSpec) -> NetworkSpec:
    """The network with the channels of another."""
    blocks = [
        dataclasses.replace(
            mine,
            a=dataclasses.replace(mine.a, channels=its.a.channels),
            b=mine.b and its.b and dataclasses.replace(mine.b, channels=its.b.channels),
        )
        for mine, its in zip(spec.blocks, other.blocks, strict=True)
    ]
    return dataclasses.replace(spec, blocks=tuple(blocks))


@given(blocks=BLOCKS, whitening=st.booleans(), share=st.floats(1.0, 40.0))
@settings(database=None, deadline=None)
def test_widened_fills_its_operations_by_channels_alone(
    blocks: list[tuple[Any, bool, Any, bool]], whitening: bool, share: float
) -> None:
    spec = network(blocks, whitening=whitening)
    most = int(share * count_flops(spec))
    wide = widened(spec, most)
    assert count_flops(spec) <= count_flops(wide) <= most
    assert like(wide, spec) == spec
    for before, after in zip(convs(spec), convs(wide), strict=True):
        assert after.channels == before.channels or (after.channels > before.channels and after.channels % 8 == 0)
    # Nothing but what rounding takes is left: all channels by 8 more, which is the least step, would be too many.
    step = [dataclasses.replace(conv, channels=conv.channels + 8) for conv in convs(wide)]
    names = iter(step)
    more = [
        dataclasses.replace(block, a=next(names), b=None if block.b is None else next(names)) for block in wide.blocks
    ]
    assert count_flops(dataclasses.replace(wide, blocks=tuple(more))) > most


def test_widened_multiplies_all_channels_by_one_factor() -> None:
    block = BlockSpec(ConvSpec(64, 3, True), None, ConvSpec(128, 3, True), True, 0.0)
    spec = NetworkSpec((32, 32, 3), 10, "relu", "average", (block,))
    twice = dataclasses.replace(block, a=ConvSpec(128, 3, True), b=ConvSpec(256, 3, True))
    double = dataclasses.replace(spec, blocks=(twice,))
    assert widened(spec, count_flops(double)) == double
    assert [conv.channels for conv in convs(widened(spec, count_flops(double) - 1))] == [120, 248]


@pytest.mark.parametrize("most", [0, 1000])
def test_widened_leaves_what_is_large_enough_or_has_no_blocks(most: int) -> None:
    block = BlockSpec(ConvSpec(5, 3, True), None, None, False, 0.0)
    spec = NetworkSpec((8, 8, 3), 10, "relu", "average", (block,))
    assert widened(spec, most) == spec
    empty = dataclasses.replace(spec, blocks=())
    assert widened(empty, 10**9) == empty
