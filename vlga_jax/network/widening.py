"""A searched network made wider: a search may try small networks, and what it finds be trained at another size.

As NASNet does with its cells (Zoph et al. 2018, arXiv 1707.07012): the architecture stays, all channels grow alike.
"""

import dataclasses

from vlga_jax.network.spec import ConvSpec, NetworkSpec, count_flops

_PARTS = 64  # factors are multiples of 1/64
_UNIT = 8  # channels are multiples of it, which is what processors compute best


def widened(spec: NetworkSpec, max_flops: int) -> NetworkSpec:
    """Returns the network with all its channels multiplied by the largest factor that its operations leave room for.

    Products are rounded down to multiples of 8 channels, but never below what a convolution has.

    Args:
      spec: of a whole network.
      max_flops: floating-point operations of one image's forward pass (`count_flops`), at most; a network that has as
        many already is returned as it is, and so is one without blocks.
    """
    if not spec.blocks:
        return spec
    fits, too_wide = _PARTS, 2 * _PARTS
    while count_flops(_multiplied(spec, too_wide)) <= max_flops:
        fits, too_wide = too_wide, 2 * too_wide
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        if count_flops(_multiplied(spec, middle)) <= max_flops:
            fits = middle
        else:
            too_wide = middle
    return _multiplied(spec, fits)


def _multiplied(spec: NetworkSpec, parts: int) -> NetworkSpec:
    def wider(conv: ConvSpec) -> ConvSpec:
        channels = max(conv.channels, conv.channels * parts // _PARTS // _UNIT * _UNIT)
        return dataclasses.replace(conv, channels=channels)

    blocks = [
        dataclasses.replace(block, a=wider(block.a), b=None if block.b is None else wider(block.b))
        for block in spec.blocks
    ]
    return dataclasses.replace(spec, blocks=tuple(blocks))
