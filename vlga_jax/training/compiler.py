"""What XLA is told about compiling networks. `docs/performance.md` has the figures behind it."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax._src.config import persistent_cache_min_compile_time_secs  # for one thread; JAX has no public way

# A train step is compiled in a sixth less processor time, and as fast; evaluation likewise.
_CPU = {"xla_backend_optimization_level": 1}
# Convolutions and products go to oneDNN, which XLA asks after YNNPACK; that is left with sums only.
_ONEDNN = {
    "xla_cpu_experimental_onednn_custom_call": True,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}
# From here on what oneDNN saves of a training outweighs that JAX's compilation cache cannot hold programs that call it.
_WORTH_FLOPS = 4e10


def compiled(lowered: Any, layers: str, flops: float) -> Any:
    """Returns one of a network's programs, compiled for this backend.

    Args:
      lowered: by JAX.
      layers, flops: as for `options`.
    """
    own = options(layers, flops)
    return _compiled_uncached(lowered, own) if _ONEDNN.keys() <= own.keys() else lowered.compile(own)


def _compiled_uncached(lowered: Any, own: dict[str, Any]) -> Any:
    """JAX's cache cannot hold a program that calls oneDNN, and trying to leaves its code in memory for ever.

    Some hundreds of networks would take all the mappings that Linux allows a process.
    """
    with persistent_cache_min_compile_time_secs(math.inf):
        return lowered.compile(own)


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
        program = _compiled_uncached(jax.jit(convolve).lower(images, kernel), _CPU | _ONEDNN)
    except jax.errors.JaxRuntimeError:  # an older or newer jaxlib, which has no such options
        return False
    return "__onednn$convolution" in (program.as_text() or "")
