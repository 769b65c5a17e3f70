"""Prints the floating-point operations a second of this machine's matrix product, as JAX runs it.

python -m benchmarks.matrix_rate float32 [FILE]

FILE takes the number, too. The products follow one another in one program, so that starting one does not count.
"""

import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array, lax

SIDE = 4096
_MANY = 50  # products in a program, where a single one takes less time than starting it


def main() -> None:
    """Measures."""
    num_products = 1 if jax.default_backend() == "cpu" else _MANY
    matrix = jax.random.normal(jax.random.key(0), (SIDE, SIDE), jnp.float32).astype(sys.argv[1]) / SIDE**0.5

    @jax.jit
    def products(left: Array, right: Array) -> Array:
        return lax.fori_loop(0, num_products, lambda _, left: left @ right, left)

    products(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        products(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    rate = num_products * 2 * SIDE**3 / statistics.median(seconds)
    print(rate)
    for file in sys.argv[2:]:
        Path(file).write_text(f"{rate}\n")


if __name__ == "__main__":
    main()
