"""A small network for the tests of what an export leaves."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec

BLOCK = BlockSpec(ConvSpec(3, 3, True), PoolSpec("max", 2), ConvSpec(2, 1, False), True, 0.25)
SPEC = NetworkSpec((5, 4, 2), 3, "elu", "average", (BLOCK, BLOCK))
ABOUT = {"class_names": ["cat", "dog", "ship"], "final": "0" * 64}


def fresh(seed: int) -> dict[str, Any]:
    variables = initialise(jax.random.key(seed), SPEC)
    return {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf + np.float32(0.25), variables["batch_stats"])}


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
