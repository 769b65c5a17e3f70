"""What XLA is told about compiling networks. `docs/performance.md` has the figures behind it."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# A train step is compiled in a sixth less processor time, and as fast; evaluation likewise.
_CPU = {"xla_backend_optimization_level": 1}
# Convolutions and products go to oneDNN, which XLA asks after YNNPACK; that is left with sums only.
_ONEDNN = {
    "xla_cpu_experimental_onednn_custom_call": True,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}
# From here on what oneDNN saves of a training outweighs that JAX's compilation cache cannot hold programs that call it.
_WORTH_FLOPS = 4e10
warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry for .*: MemoryError")


def options(layers: str, flops: float) -> dict[str, Any]:
    """Returns the compiler's options for a network's programs on this backend.

    Args:
      layers: tuned or plain, as in `vlga_jax.network.modules`; plain ones are compiled as JAX would.
      flops: floating-point operations of the whole training; a long one is better done by oneDNN.
    """
    if layers != "tuned" or jax.default_backend() != "cpu":
        return {}
    return _CPU | (_ONEDNN if flops >= _WORTH_FLOPS and has_onednn() else {})


@functools.cache
def has_onednn() -> bool:
    """Returns whether this jaxlib computes convolutions on a CPU by oneDNN when told to; it does on x86-64."""
    convolve = functools.partial(
        lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    images, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 8, 8, 8), (3, 3, 8, 8)))
    try:
        compiled = jax.jit(convolve).lower(images, kernel).compile(_CPU | _ONEDNN)
    except jax.errors.JaxRuntimeError:  # an older or newer jaxlib, which has no such options
        return False
    return "__onednn$convolution" in (compiled.as_text() or "")
