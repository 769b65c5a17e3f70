"""A spec made real: Flax linen modules. Activations: `[batch, height, width, channels]`, in the inputs' precision."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from vlga_jax.network import onednn
from vlga_jax.network.convolution import mixed, tuned
from vlga_jax.network.normalisation import BatchNorm
from vlga_jax.network.pooling import pool, tuned_pool
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.network.whitening import WHITENING, Whitening
from vlga_jax.shapes import Array, Float, PRNGKeyArray

Images = Float[Array, "batch height width channels"]
Weights = Array | np.ndarray  # on the host, too

BATCH_NORM_MOMENTUM = (
    0.9  # a fitness trains for some dozen steps; Flax's 0.99 would leave the statistics near their start
)
BATCH_NORM_EPSILON = 1e-5


def leaky_relu(x: Array) -> Array:
    """Returns max(x, 0.01 x)."""
    return jnp.maximum(x, 0.01 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "elu": nn.elu,
    "leaky_relu": leaky_relu,
    "tanh": jnp.tanh,
    "selu": nn.selu,
}


class Layers(NamedTuple):
    """How a network's layers are computed.

    Attributes:
      convolution: in place of `lax.conv_general_dilated`.
      promotion: of its stride, inputs, kernel and bias to one precision, in place of `promote_dtype`.
      norm: in place of `nn.BatchNorm`.
      pool: of an activation's outputs, a spec and the activation's name.
    """

    convolution: Callable[..., Any]
    promotion: Callable[..., Any]
    norm: Callable[..., Any]
    pool: Callable[[Array, PoolSpec, str], Array]


def _flax_norm(**settings: Any) -> Callable[[Array], Array]:
    """Flax's batch norm, for any precision of activations."""
    norm = nn.BatchNorm(**settings)
    return lambda x: norm(x.astype(jnp.float32))


def _bias_apart(stride: int, x: Array, kernel: Weights, bias: Weights | None, *, dtype: Any) -> Any:
    """Stands in for Flax's `promote_dtype` in a 'same' `nn.Conv`: a bias that would lose precision is spread first."""
    if bias is not None and jnp.finfo(dtype).bits < jnp.finfo(bias.dtype).bits:
        sides = (-(-side // stride) for side in x.shape[1:3])
        bias = _spread(bias, (len(x), *sides, *bias.shape), dtype)
    return promote_dtype(x, kernel, bias, dtype=dtype)


def _flax_promotion(stride: int, *operands: Weights | None, dtype: Any) -> Any:
    del stride
    return promote_dtype(*operands, dtype=dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _spread(bias: Weights, shape: tuple[int, ...], dtype: Any) -> Array:
    """Returns the bias at every pixel in a narrower precision, its gradient summed in float32.

    Added in float32, it would not be part of cuDNN's convolution any more (`make gpu-programs` tells the calls).
    """
    return jnp.broadcast_to(bias.astype(dtype), shape)


def _spread_forward(bias: Weights, shape: tuple[int, ...], dtype: Any) -> tuple[Array, None]:
    return _spread(bias, shape, dtype), None


def _spread_backward(shape: tuple[int, ...], dtype: Any, _: None, gradient: Array) -> tuple[Array]:
    return (gradient.astype(jnp.float32).sum((0, 1, 2)),)


_spread.defvjp(_spread_forward, _spread_backward)


LAYERS = {
    "tuned": Layers(tuned, _bias_apart, BatchNorm, tuned_pool),
    "mixed": Layers(mixed, _bias_apart, BatchNorm, tuned_pool),  # on a CPU in place of tuned ones in bfloat16
    "plain": Layers(lax.conv_general_dilated, _flax_promotion, _flax_norm, lambda x, spec, _: pool(x, spec)),
}
LAYERS_REVISION = 5  # to be raised whenever layers, or the programs they become, come to give other bits


def are_mixed(layers: str) -> bool:
    """Returns whether these layers, asked for in bfloat16, are mixed ones here: a CPU is slow at all but products."""
    return layers == "tuned" and jax.default_backend() == "cpu" and onednn.computes_bfloat16()


def convolve(
    x: Images, channels: int, size: int, stride: int, layers: str, *, name: str, use_bias: bool = True
) -> Float[Array, "batch out_height out_width out_channels"]:
    """Returns the 'same' convolution of `x`, in its precision, made by a submodule of the module that calls this.

    Args:
      x: activations.
      channels: of the outputs.
      size: of the kernel.
      stride: of rows and columns.
      layers: a key of `LAYERS`.
      name: of the submodule.
      use_bias: whether a bias is added.
    """
    convolution = nn.Conv(
        channels,
        (size, size),
        strides=(stride, stride),
        use_bias=use_bias,
        conv_general_dilated=LAYERS[layers].convolution,
        dtype=x.dtype,
        promote_dtype=functools.partial(LAYERS[layers].promotion, stride),
        name=name,
    )
    return convolution(x)


class ConvUnit(nn.Module):
    """A convolution, its batch norm if it has one (the convolution then needs no bias), and the activation."""

    spec: ConvSpec
    activation: str
    layers: str = "tuned"

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Float[Array, "batch out_height out_width out_channels"]:
        size, stride = self.spec.kernel, self.spec.stride
        x = convolve(x, self.spec.channels, size, stride, self.layers, name="conv", use_bias=not self.spec.batch_norm)
        if self.spec.batch_norm:
            norm = LAYERS[self.layers].norm(
                use_running_average=not train, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name="norm"
            )
            x = norm(x).astype(x.dtype)
        return ACTIVATIONS[self.activation](x)


class ConvBlock(nn.Module):
    """One block: a, pool, b, plus the skip; see `vlga_jax.network.spec`."""

    spec: BlockSpec
    activation: str
    layers: str = "tuned"

    @nn.compact
    def __call__(
        self, x: Images, *, train: bool, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        inputs = x
        x = ConvUnit(self.spec.a, self.activation, self.layers, name="a")(x, train=train)
        if self.spec.pool is not None:
            x = LAYERS[self.layers].pool(x, self.spec.pool, self.activation)
        if self.spec.b is not None:
            x = ConvUnit(self.spec.b, self.activation, self.layers, name="b")(x, train=train)
        if self.spec.skip:
            x = x + convolve(inputs, self.spec.out_channels, 1, self.spec.stride, self.layers, name="skip")
        if self.spec.dropout_rate > 0:
            x = nn.Dropout(self.spec.dropout_rate, deterministic=not train)(x, rng=dropout_key)
        return x


class ConvNet(nn.Module):
    """A network: `block_0`, `block_1`, ..., `head`; or `head` alone. Before them, where the spec says so, `whitening`.

    Attributes:
      spec: what it is.
      layers: a key of `LAYERS`.
      precision: of activations, float32 or bfloat16; variables, statistics and the head are float32. Tuned layers on a
        CPU whose oneDNN `computes_bfloat16` keep activations in float32 and round what convolutions multiply.
    """

    spec: NetworkSpec
    layers: str = "tuned"
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Images, *, train: bool, num_frozen: int = 0) -> Float[Array, "batch classes"]:
        """Returns logits.

        Args:
          x: scaled images or, for a suffix, the outputs of the block before it; any floating dtype.
          train: whether batch norm uses and updates batch statistics and dropout drops.
          num_frozen: leading blocks that stay in inference mode whatever `train` says.
        """
        is_mixed = self.precision == "bfloat16" and are_mixed(self.layers)
        layers, precision = ("mixed", "float32") if is_mixed else (self.layers, self.precision)
        if self.spec.whitening:
            x = Whitening(name=WHITENING)(x)
        x = x.astype(precision)
        for index, block in enumerate(self.spec.blocks):
            learns = train and index >= num_frozen
            # Drawn here, because a block's own key follows from its name, which is another in a suffix.
            key = self.make_rng("dropout") if learns and block.dropout_rate > 0 else None
            module = ConvBlock(block, self.spec.activation, layers, name=f"block_{index}")
            x = module(x, train=learns, dropout_key=key)
            if index + 1 == num_frozen:
                x = jax.lax.stop_gradient(x)
        x = x.astype(jnp.float32)
        x = jnp.mean(x, axis=(1, 2)) if self.spec.head_pool == "average" else jnp.max(x, axis=(1, 2))
        return nn.Dense(self.spec.num_classes, name="head")(x)
