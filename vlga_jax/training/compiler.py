"""What XLA is told about compiling networks. `docs/performance.md` has the figures behind it."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# On two cores: a train step is compiled in 1.4 s of processor time instead of 1.7, and as fast; evaluation likewise.
_CPU = {"xla_backend_optimization_level": 1}
# Convolutions and products by oneDNN, in the order in which XLA asks its libraries; only sums are left to YNNPACK.
_ONEDNN = {
    "xla_cpu_experimental_onednn_custom_call": True,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}


# JAX's compilation cache cannot hold a program that calls oneDNN; 0.2 of so much training outweighs compiling it again.
_WORTH_FLOPS = 4e10
warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry for .*: MemoryError")


def options(layers: str, flops: float) -> dict[str, Any]:
    """Returns the compiler's options for a network's programs on this backend.

    Args:
      layers: tuned or plain, as in `vlga_jax.network.modules`; plain ones are compiled as JAX would.
      flops: floating-point operations that the programs will do in all; many of them are better done by oneDNN.
    """
    if layers != "tuned" or jax.default_backend() != "cpu":
        return {}
    return _CPU | (_ONEDNN if flops >= _WORTH_FLOPS and has_onednn() else {})


@functools.cache
def has_onednn() -> bool:
    """Returns whether this jaxlib computes convolutions on a CPU by oneDNN when told to; it does on x86-64."""
    images, kernel = jnp.zeros((1, 8, 8, 8)), jnp.zeros((3, 3, 8, 8))

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    try:
        compiled = jax.jit(convolve).lower(images, kernel).compile(_CPU | _ONEDNN)
    except jax.errors.JaxRuntimeError:  # an older or newer jaxlib, which has no such options
        return False
    return "__onednn$convolution" in (compiled.as_text() or "")
