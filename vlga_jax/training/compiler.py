"""What XLA is told about compiling networks. `docs/performance` has the figures behind it."""

from typing import Any

import jax

# A train step is compiled in a sixth less processor time, and as fast; evaluation likewise.
_CPU = {"xla_backend_optimization_level": 1}


def options(layers: str) -> dict[str, Any]:
    """Returns the compiler's options for a network's programs on this backend.

    Args:
      layers: tuned or plain, as in `vlga_jax.network.modules`; plain ones are compiled as JAX would.
    """
    return _CPU if layers == "tuned" and jax.default_backend() == "cpu" else {}
