"""2x2 pools, written for speed and for deterministic gradients.

XLA refuses select-and-scatter, the gradient of `nn.max_pool`, under deterministic GPU kernels, and is slow at it: on a
CPU, 256x32x32x32, forward and backward, a maximum of slices takes 10 ms instead of 101.
"""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vlga_jax.network.spec import POOL_WINDOW, PoolSpec
from vlga_jax.shapes import Array, Float

Images = Float[Array, "batch height width channels"]
Pooled = Float[Array, "batch out_height out_width channels"]
_COSTLY = ("elu", "selu")  # activations with an exponential, which overlapping windows would compute anew


def pool(x: Images, spec: PoolSpec) -> Pooled:
    """Returns the 2x2 pool of `x`, 'same': windows that reach over the lower and right edge see only what is inside.

    Each of the window's four taps is a shifted, strided slice; the pool is their maximum or mean.
    """
    _, height, width, _ = x.shape
    out_height, out_width = -(-height // spec.stride), -(-width // spec.stride)
    need_height = (out_height - 1) * spec.stride + POOL_WINDOW
    need_width = (out_width - 1) * spec.stride + POOL_WINDOW
    over = ((0, 0), (0, need_height - height), (0, need_width - width), (0, 0))

    def taps(padded: Any) -> list[Any]:
        return [
            padded[:, row : row + need_height - 1 : spec.stride, column : column + need_width - 1 : spec.stride]
            for row in range(POOL_WINDOW)
            for column in range(POOL_WINDOW)
        ]

    ragged = need_height > height or need_width > width
    if spec.kind == "max":
        return functools.reduce(jnp.maximum, taps(jnp.pad(x, over, constant_values=-jnp.inf) if ragged else x))
    total = _sum(taps(jnp.pad(x, over) if ragged else x))
    if not ragged:
        return total / POOL_WINDOW**2
    return total / _sum(taps(np.pad(np.ones((1, height, width, 1), x.dtype), over)))


def tuned_pool(x: Images, spec: PoolSpec, activation: str) -> Pooled:
    """Returns `pool(x, spec)`, the same bits, on a CPU by what its compiler does fastest; gradients differ by rounding.

    It is not fused with what follows, where its gradient would be slow, nor with a costly activation before it.

    Args:
      x: what an activation gave.
      spec: of the pool.
      activation: its name.
    """
    if jax.default_backend() != "cpu":
        return pool(x, spec)
    if activation in _COSTLY and spec.stride < POOL_WINDOW:
        x = lax.optimization_barrier(x)
    ragged = any(side % spec.stride or spec.stride < POOL_WINDOW for side in x.shape[1:3])
    if not ragged:
        pooled = pool(x, spec)
    elif spec.kind == "max":
        pooled = _ragged_maximum(x, spec)
    else:
        pooled = _ragged_average(x, spec.stride)
    return lax.optimization_barrier(pooled)


def _ragged_average(x: Images, stride: int) -> Pooled:
    """Sums are divided by what stands in no array: with a constant of a map's size it would take twice as long."""
    total = _sum(_taps(x, stride, 0.0))
    for axis in (1, 2):
        size, out_size = x.shape[axis], total.shape[axis]
        shape = tuple(out_size if each == axis else 1 for each in range(4))
        inside = lax.broadcasted_iota(jnp.int32, shape, axis) * stride + 1 < size
        total = total * jnp.where(inside, jnp.asarray(0.5, x.dtype), jnp.asarray(1.0, x.dtype))
    return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _ragged_maximum(x: Images, spec: PoolSpec) -> Pooled:
    """Its gradient is that of `pool`, whose taps are faster there and slower here."""
    return functools.reduce(jnp.maximum, _taps(x, spec.stride, -jnp.inf))


def _ragged_maximum_forward(x: Array, spec: PoolSpec) -> tuple[Array, Array]:
    return _ragged_maximum(x, spec), x


def _ragged_maximum_backward(spec: PoolSpec, x: Array, gradient: Array) -> tuple[Array]:
    _, backward = jax.vjp(lambda x: pool(x, spec), x)
    return backward(gradient)


_ragged_maximum.defvjp(_ragged_maximum_forward, _ragged_maximum_backward)


def _taps(x: Images, stride: int, outside: float) -> list[Array]:
    """The window's four taps, cut out of `x` and then padded: the other way round a CPU takes 2 to 3 times as long."""
    out_height, out_width = (-(-side // stride) for side in x.shape[1:3])

    def tap(row: int, column: int) -> Array:
        cut = x[:, row::stride, column::stride]
        missing = ((0, out_height - cut.shape[1], 0), (0, out_width - cut.shape[2], 0))
        return lax.pad(cut, jnp.asarray(outside, x.dtype), ((0, 0, 0), *missing, (0, 0, 0)))

    return [tap(row, column) for row in range(POOL_WINDOW) for column in range(POOL_WINDOW)]


def _sum(taps: list[Any]) -> Any:
    return functools.reduce(operator.add, taps)
