"""Prints the floating-point operations a second of this machine's matrix product, as JAX runs it.

python -m benchmarks.matrix_rate float32
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp

SIDE = 4096


def main() -> None:
    """Prints one number."""
    matrix = jnp.ones((SIDE, SIDE), sys.argv[1])
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    print(2 * SIDE**3 / statistics.median(seconds))


if __name__ == "__main__":
    main()
