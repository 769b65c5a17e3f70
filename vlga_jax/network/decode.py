"""From a chromosome to a network: the only file that knows both languages.

Genes that change nothing (a pool's type without a pool, b's genes without b, a pool on a 1x1 map, a stride beyond the
map's sides or beyond what the space allows there) leave no trace in the spec, so chromosomes that differ only in them
decode to equal specs.
"""

from collections.abc import Mapping
from typing import Any

from vlga_jax.genome.chromosome import Chromosome, to_values
from vlga_jax.genome.space import SearchSpace
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec


def decode(
    space: SearchSpace,
    chromosome: Chromosome,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    pool_stride: int,
    min_side: int = 1,
    head_pool: str,
    whitening: bool = False,
) -> NetworkSpec:
    """Returns the network of a chromosome.

    Args:
      space: the genes that the chromosome's indices stand for.
      chromosome: its blocks; with none, the activation, which nothing uses, is the space's first.
      input_shape: height, width, channels of the images.
      num_classes: at least 2.
      pool_stride: pixels, 1 or 2.
      min_side: what strides leave of a map's longer side at least, pixels, unless it is less already.
      head_pool: average or max.
      whitening: whether images are whitened.
    """
    blocks: list[BlockSpec] = []
    shape = input_shape
    values = to_values(space, chromosome)
    for genes in values:
        blocks.append(_block(genes, shape, pool_stride, min_side))
        shape = blocks[-1].out_shape(shape)
    activations = space.genes[space.place("activation")].choices
    return NetworkSpec(
        input_shape=input_shape,
        num_classes=num_classes,
        activation=str(values[0]["activation"] if values else activations[0]),
        head_pool=head_pool,
        blocks=tuple(blocks),
        whitening=whitening,
    )


def _block(genes: Mapping[str, Any], in_shape: tuple[int, int, int], pool_stride: int, min_side: int) -> BlockSpec:
    stride = _stride(genes["a_stride"], max(in_shape[:2]), min_side)
    a = ConvSpec(genes["a_channels"], genes["a_kernel"], genes["a_batch_norm"], stride)
    side = max(a.out_shape(in_shape)[:2])
    pools = genes["include_pool"] and side > 1
    return BlockSpec(
        a=a,
        pool=PoolSpec(genes["pool_type"], _stride(pool_stride, side, min_side)) if pools else None,
        b=ConvSpec(genes["b_channels"], genes["b_kernel"], genes["b_batch_norm"]) if genes["include_b"] else None,
        skip=genes["include_skip"],
        dropout_rate=genes["dropout_rate"],
    )


def _stride(wanted: int, side: int, min_side: int) -> int:
    """The largest stride up to the wanted one that leaves `min_side` pixels; beyond the map all leave the same one."""
    return max(stride for stride in range(1, min(wanted, side) + 1) if stride == 1 or -(-side // stride) >= min_side)
