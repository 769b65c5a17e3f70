"""Fresh weights without a program per network.

`jax.jit(module.init)` compiles anew for every network (1.36 s each on two cores). Here shapes come from
`jax.eval_shape`, standard normal values from one sampler compiled once, and each leaf scales its share on the host.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.whitening import WHITENING, PatchStatistics
from vlga_jax.shapes import Array, PRNGKeyArray

_DRAW = 1 << 15  # values a call of the sampler draws
_TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal cut at 2


@jax.jit
def _truncated_normal(key: PRNGKeyArray, place: Array) -> Array:
    return jax.random.truncated_normal(jax.random.fold_in(key, place), -2.0, 2.0, (_DRAW,), jnp.float32)


@functools.lru_cache(maxsize=4096)
def variable_shapes(spec: NetworkSpec) -> Any:
    """Returns the tree of `jax.ShapeDtypeStruct` of a network's variables, without compiling anything."""
    images = jax.ShapeDtypeStruct((1, *spec.input_shape), jnp.float32)
    return jax.eval_shape(lambda x: ConvNet(spec).init({"params": jax.random.key(0)}, x, train=False), images)


def initialise(key: PRNGKeyArray, spec: NetworkSpec, whitening: PatchStatistics | None = None) -> dict[str, Any]:
    """Returns fresh variables of the network, as NumPy arrays.

    Kernels are truncated normal with variance 1 / fan-in (Flax's default, LeCun et al. 1998; the order of drawing is
    ours), biases, offsets and running means 0, scales and running variances 1.

    Args:
      key: consumed.
      spec: the network.
      whitening: of the images that it is trained on; needed where the spec whitens.

    Raises:
      ValueError: it is missing.
    """
    shapes, tree = jax.tree_util.tree_flatten_with_path(variable_shapes(spec))
    names = ["" if path[1].key == WHITENING else path[-1].key for path, _ in shapes]
    num_drawn = sum(math.prod(leaf.shape) for name, (_, leaf) in zip(names, shapes, strict=True) if name == "kernel")
    draws = [_truncated_normal(key, jnp.uint32(place)) for place in range(-(-num_drawn // _DRAW))]
    drawn = np.concatenate([np.asarray(draw) for draw in draws])
    leaves, used = [], 0
    for name, (_, leaf) in zip(names, shapes, strict=True):
        if name == "kernel":
            size = math.prod(leaf.shape)
            fan_in = size // leaf.shape[-1]
            scale = np.float32(math.sqrt(1 / fan_in) / _TRUNCATED_STDDEV)
            leaves.append(drawn[used : used + size].reshape(leaf.shape) * scale)
            used += size
        else:
            leaves.append(np.full(leaf.shape, 1.0 if name in ("scale", "var") else 0.0, np.float32))
    variables = jax.tree_util.tree_unflatten(tree, leaves)
    if spec.whitening:
        if whitening is None:
            raise ValueError("a network that whitens images needs their statistics")
        variables["batch_stats"][WHITENING] = whitening
    return variables
