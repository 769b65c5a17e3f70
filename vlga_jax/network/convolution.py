"""Convolutions as this project computes them on a CPU: forward, input gradient and weight gradient each its own way.

Where `onednn` is available, all three are oneDNN's. Elsewhere XLA's own forward and input gradient run at the speed of
a matrix product, but its weight gradient reads the whole batch once per tile of a small result, and its 1x1
convolutions are slower than the products they are. So 1x1 is a product there, and a weight gradient goes through the
batch in chunks that stay in cache: 256 images of 16x16x32, 3x3, to 32 channels, on two cores, 9.7 ms against 20.2.
`docs/performance/cpu.md` has more. Where activations are to be bfloat16, `mixed` rounds the operands of oneDNN's.

Elsewhere than on a CPU, in other precisions, and for wider kernels with a stride, `lax.conv_general_dilated` runs.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vlga_jax.network import onednn
from vlga_jax.shapes import Array, Float

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_WHOLE_BYTES = 1 << 20  # of the wider operand: a batch of no more than what a core's own cache holds goes whole
_CHUNK_IMAGES = (8, 16)  # fewer starve the product, more gain nothing
_CHUNK_IMAGES_NARROW = 32  # of at most eight channels
# Of a 1x1 convolution's weight gradient: where they divide its pixels, as many threads divide no sum, so bits stay.
_PRODUCT_PARTS = 64
_FEW_CHANNELS = 16  # at most, in and out, where XLA takes its slow path
_PAIRS_WIDTH = 16  # pixels, at least: a narrower map gains nothing by pairs of columns
_BFLOAT16_BITS = 8, 7  # of exponent and mantissa
_VECTOR = 32  # channels below which twice the bytes still go whole

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "side side channels out_channels"]


def tuned(inputs: Array, kernel: Array, strides: Sequence[int], padding: Any, **others: Any) -> Array:
    """Stands in for `lax.conv_general_dilated` in `nn.Conv`: square 'same' convolutions.

    Wider ones with a stride are left to `lax`; a 1x1 takes the pixels at multiples of its stride, as 'same' does.

    Args:
      inputs: `[batch, height, width, channels]`.
      kernel: `[side, side, channels, out_channels]`, side odd.
      strides: of rows and columns.
      padding: as `nn.Conv` hands it on.
      others: what else `nn.Conv` hands on; all at Flax's defaults.
    """
    return _tuned(inputs, kernel, strides, padding, "float32", others)


def mixed(inputs: Array, kernel: Array, strides: Sequence[int], padding: Any, **others: Any) -> Array:
    """Returns `tuned` of float32 inputs and kernel with what is multiplied rounded to bfloat16.

    That is inputs, kernel and, where the convolution is oneDNN's, the gradient of the outputs; sums, outputs and
    gradients are float32. For a CPU where oneDNN `computes_bfloat16`.
    """
    return _tuned(inputs, kernel, strides, padding, "bfloat16", others)


def _tuned(
    inputs: Array, kernel: Array, strides: Sequence[int], padding: Any, operands: str, others: Mapping[str, Any]
) -> Array:
    side = kernel.shape[0]
    elsewhere = jax.default_backend() != "cpu" or inputs.dtype != jnp.float32
    if elsewhere or (side > 1 and tuple(strides) != (1, 1)):
        if operands != "float32":
            inputs, kernel = (lax.reduce_precision(x, *_BFLOAT16_BITS) for x in (inputs, kernel))
        return lax.conv_general_dilated(inputs, kernel, strides, padding, **others)
    if side == 1:
        inputs = inputs[:, :: strides[0], :: strides[1]]
        if not onednn.available():
            return _product(inputs, kernel[0, 0])
    return _convolution(inputs, kernel, operands)


@jax.custom_vjp
def _product(inputs: Images, weights: Float[Array, "channels out_channels"]) -> Array:
    return lax.dot_general(inputs, weights, (((3,), (0,)), ((), ())))


def _product_forward(inputs: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(inputs, weights), (inputs, weights)


def _product_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The weights' gradient in parts: a product as long and as narrow is slow, and drags what comes before it along."""
    inputs, weights = saved
    parts = math.gcd(gradient.size // gradient.shape[3], _PRODUCT_PARTS)
    rows, row_gradients = (x.reshape(parts, -1, x.shape[3]) for x in (inputs, gradient))
    weight_gradients = lax.dot_general(rows, row_gradients, (((1,), (1,)), ((0,), (0,))))
    return lax.dot_general(gradient, weights, (((3,), (1,)), ((), ()))), weight_gradients.sum(0)


_product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(inputs: Images, kernel: Kernel, operands: str) -> Float[Array, "batch height width out_channels"]:
    return _same(inputs.astype(operands), kernel.astype(operands))


def _forward(inputs: Array, kernel: Array, operands: str) -> tuple[Array, tuple[Array, Array]]:
    inputs, kernel = inputs.astype(operands), kernel.astype(operands)
    return _same(inputs, kernel), (inputs, kernel)


def _backward(operands: str, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = saved
    gradient = gradient.astype(operands)
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _same(gradient, turned), weight_gradient(inputs, gradient, kernel.shape[0])


_convolution.defvjp(_forward, _backward)


def weight_gradient(inputs: Images, gradient: Array, side: int) -> Kernel:
    """Returns the gradient of a 'same' convolution with respect to its kernel.

    Without oneDNN it is itself a convolution, over images as channels; the operand with more channels takes the
    kernel's place. A sum over chunks of the batch keeps that operand in cache.

    Args:
      inputs: `[batch, height, width, channels]`.
      gradient: with respect to the outputs, `[batch, height, width, out_channels]`.
      side: of the kernel, odd.
    """
    if onednn.available():
        return onednn.weight_gradient(inputs, gradient, side)
    swapped = gradient.shape[3] < inputs.shape[3]
    sliding, fixed = (gradient, inputs) if swapped else (inputs, gradient)
    size = _chunk_size(fixed.shape)
    if size == len(fixed):
        total = _correlation(sliding, fixed, side)
    else:
        chunks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (sliding, fixed))
        start = jnp.zeros((sliding.shape[3], side, side, fixed.shape[3]), inputs.dtype)
        total, _ = lax.scan(lambda total, chunk: (total + _correlation(chunk[0], chunk[1], side), None), start, chunks)
    if swapped:
        return jnp.transpose(total[:, ::-1, ::-1], (1, 2, 3, 0))
    return jnp.transpose(total, (1, 2, 0, 3))


def _correlation(sliding: Array, fixed: Array, side: int) -> Float[Array, "channels side side out_channels"]:
    reach = (side // 2, side // 2)
    return lax.conv_general_dilated(
        jnp.transpose(sliding, (3, 1, 2, 0)),
        jnp.transpose(fixed, (1, 2, 0, 3)),
        (1, 1),
        (reach, reach),
        dimension_numbers=_DIMENSIONS,
    )


def _same(inputs: Array, kernel: Array) -> Array:
    if onednn.available():
        return onednn.convolution(inputs, kernel)
    side, _, channels, out_channels = kernel.shape
    if side > min(inputs.shape[1:3]):
        return _beyond_the_map(inputs, kernel)
    few = max(channels, out_channels) <= _FEW_CHANNELS and (side > 3 or out_channels <= _FEW_CHANNELS // 2)
    if few and inputs.shape[2] % 2 == 0 and inputs.shape[2] >= _PAIRS_WIDTH:
        return _in_pairs(inputs, kernel)
    return lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=_DIMENSIONS)


def _beyond_the_map(inputs: Array, kernel: Array) -> Array:
    """The convolution with a kernel wider than the map, for which XLA emits plain loops: 10 to 50 times slower.

    The map is made as wide as the kernel first, behind a barrier, lest XLA take the padding back into the convolution.
    Taps that no two pixels of the map are far enough apart for are left out.
    """
    side = kernel.shape[0]
    unused = [max(side // 2 - size + 1, 0) for size in inputs.shape[1:3]]
    kernel = kernel[unused[0] : side - unused[0], unused[1] : side - unused[1]]
    borders = [-(-max(taps - size, 0) // 2) for taps, size in zip(kernel.shape[:2], inputs.shape[1:3], strict=True)]
    wide = lax.optimization_barrier(jnp.pad(inputs, ((0, 0), *((border, border) for border in borders), (0, 0))))
    padding = [(taps // 2 - border,) * 2 for taps, border in zip(kernel.shape[:2], borders, strict=True)]
    return lax.conv_general_dilated(wide, kernel, (1, 1), padding, dimension_numbers=_DIMENSIONS)


def _in_pairs(inputs: Array, kernel: Array) -> Array:
    """The convolution with two neighbouring columns taken as one of twice the channels.

    It multiplies by some zeros (a fifth more work for side 5), but XLA has a slow path for few channels.
    """
    batch, height, width, channels = inputs.shape
    side, _, _, out_channels = kernel.shape
    rows, pairs = side // 2, (side // 2 + 1) // 2
    step, column, out_column = np.ogrid[-pairs : pairs + 1, 0:2, 0:2]
    tap = 2 * step + column - out_column + side // 2
    tap = np.where((tap >= 0) & (tap < side), tap, side)  # the last, of zeros
    padded = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))
    paired = jnp.transpose(padded[:, tap], (0, 1, 2, 4, 3, 5))
    outputs = lax.conv_general_dilated(
        inputs.reshape(batch, height, width // 2, 2 * channels),
        paired.reshape(side, 2 * pairs + 1, 2 * channels, 2 * out_channels),
        (1, 1),
        ((rows, rows), (pairs, pairs)),
        dimension_numbers=_DIMENSIONS,
    )
    return outputs.reshape(batch, height, width, out_channels)


def _chunk_size(shape: tuple[int, ...]) -> int:
    """Images a chunk: a divisor of the batch; the whole batch where that fits, or where no such number divides it."""
    batch, height, width, channels = shape
    if batch * 4 * height * width * channels <= _WHOLE_BYTES * (2 if channels < _VECTOR else 1):
        return batch
    fewest, most = _CHUNK_IMAGES
    most = _CHUNK_IMAGES_NARROW if channels <= 8 else most
    return next((size for size in range(most, fewest - 1, -1) if batch % size == 0), batch)
