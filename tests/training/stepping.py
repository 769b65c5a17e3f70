"""A small network, a recipe, batches of noise and single steps, for tests of one step."""

from typing import Any

import jax
import numpy as np

from tests.recipes import PLAIN
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.training.step import (
    Batch,
    Recipe,
    TrainState,
    initial_state,
    make_optimizer,
    make_train_step,
)

SPEC = NetworkSpec((4, 4, 1), 3, "tanh", "average", (BlockSpec(ConvSpec(2, 3, True), None, None, False, 0.0),))
RECIPE = PLAIN


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(rng.integers(0, 256, (8, *SPEC.input_shape)).astype(np.uint8), rng.integers(0, 3, 8).astype(np.int32))


def start(spec: NetworkSpec, recipe: Recipe) -> TrainState:
    return initial_state(initialise(jax.random.key(0), spec), make_optimizer(recipe, steps_per_epoch=1, num_frozen=0))


def jitted_step(spec: NetworkSpec, recipe: Recipe) -> Any:
    return jax.jit(make_train_step(spec, recipe, steps_per_epoch=1, num_frozen=0))
