"""Batch norm that reads its inputs as seldom as can be: twice forward, twice backward.

Automatic differentiation of the textbook's formula keeps centred and scaled copies of the activations and reads them
several times. Written as `x * gain + offset` with a gain and an offset for each channel, its gradient is of that form,
too, and needs the inputs and the channels' statistics only. `docs/performance/cpu.md` has the figures.

Sums and statistics are float32 whatever the activations are.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vlga_jax.shapes import Array, Float

Images = Float[Array, "batch height width channels"]
PerChannel = Float[Array | np.ndarray, "channels"]

_EXAMPLES = (0, 1, 2)  # all axes but the channels


class BatchNorm(nn.Module):
    """Batch norm (Ioffe & Szegedy 2015) over the last axis, a drop-in for `nn.BatchNorm`, with its variables.

    Attributes:
      use_running_average: whether to take the running statistics instead of the batch's, and leave them.
      momentum: the share of the running statistics that a batch leaves.
      epsilon: added to the variance.
    """

    use_running_average: bool
    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Images) -> Images:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if self.use_running_average:
            gain = scale * lax.rsqrt(running_var.value + self.epsilon)
            return _affine(_wide(x), gain, bias - running_mean.value * gain).astype(x.dtype)
        y, mean, var = normalise(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y


def normalise(x: Images, scale: PerChannel, bias: PerChannel, epsilon: float) -> tuple[Images, PerChannel, PerChannel]:
    """Returns `x` with the batch's mean and variance made `bias` and `scale` squared; then that mean and variance.

    Mean and variance (biased, never below 0) are for running statistics: no gradient goes through them.

    Args:
      x: the batch.
      scale, bias: of each channel.
      epsilon: added to the variance.
    """
    y, mean, var = _normalise(x, scale, bias, epsilon)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
    outputs, _ = _forward(x, scale, bias, epsilon)
    return outputs


def _forward(
    x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    wide, count = _wide(x), x.size // x.shape[-1]
    mean = wide.sum(_EXAMPLES) / count
    var = jnp.maximum((wide * wide).sum(_EXAMPLES) / count - mean * mean, 0.0)
    inverse = lax.rsqrt(var + epsilon)
    gain = scale * inverse
    return (_affine(wide, gain, bias - mean * gain).astype(x.dtype), mean, var), (x, scale, mean, inverse)


def _backward(epsilon: float, saved: tuple[Array, ...], cotangents: tuple[Array, ...]) -> tuple[Array, ...]:
    del epsilon
    x, scale, mean, inverse = saved
    wide, gradient, count = _wide(x), _wide(cotangents[0]), x.size // x.shape[-1]
    d_bias = gradient.sum(_EXAMPLES)
    d_scale = ((gradient * wide).sum(_EXAMPLES) - mean * d_bias) * inverse
    gain = scale * inverse
    slope = -gain * inverse * d_scale / count
    offset = -gain * d_bias / count - slope * mean
    return (_affine(gradient, gain, offset) + wide * _along(slope)).astype(x.dtype), d_scale, d_bias


_normalise.defvjp(_forward, _backward)


def _affine(x: Array, gain: Array, offset: Array) -> Array:
    return x * _along(gain) + _along(offset)


def _wide(x: Array) -> Array:
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def _along(values: Array) -> Float[Array, "1 1 1 channels"]:
    return values[None, None, None]
