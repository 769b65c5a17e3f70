"""Inherited blocks stay as they are: not a bit of them changes, and no gradient is computed for them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.jaxprs import equations
from tests.recipes import PLAIN
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.network.transfer import stop_frozen_gradients
from vlga_jax.training.examples import Examples
from vlga_jax.training.fit import run_epochs
from vlga_jax.training.programs import Plan, build
from vlga_jax.training.step import Batch, initial_state, make_optimizer, make_train_step

RECIPE = dataclasses.replace(PLAIN, learning_rate=0.05, weight_decay=0.1)
INHERITED = BlockSpec(ConvSpec(3, 3, True), PoolSpec("max", 2), ConvSpec(4, 3, True), True, 0.0)  # three convolutions
NEW = BlockSpec(ConvSpec(3, 3, True), None, None, True, 0.0)
NETWORK = NetworkSpec((6, 6, 1), 3, "relu", "average", (INHERITED, INHERITED, NEW))
RNG = np.random.default_rng(0)
TRAIN = Examples(RNG.integers(0, 256, (20, 6, 6, 1)).astype(np.uint8), RNG.integers(0, 3, 20).astype(np.int32))


def variables_with_negative_zeros(spec: NetworkSpec, num_frozen: int) -> dict[str, Any]:
    """Fresh variables, running statistics moved; every other parameter of the leading blocks is -0.0."""
    fresh = initialise(jax.random.key(0), spec)
    fresh["batch_stats"] = jax.tree.map(lambda leaf: leaf + np.float32(0.25), fresh["batch_stats"])

    def plant(leaf: np.ndarray) -> np.ndarray:
        planted = leaf.copy()
        planted.flat[::2] = -0.0
        return planted

    planted = {name: jax.tree.map(plant, fresh["params"][name]) for name in map("block_{}".format, range(num_frozen))}
    return {**fresh, "params": {**fresh["params"], **planted}}


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    ("num_frozen", "optimizer", "whole_epochs"), [(1, "adam", False), (2, "sgd", False), (1, "sgd", True)]
)
def test_training_with_frozen_blocks_keeps_their_bits_and_changes_the_rest(
    num_frozen: int, optimizer: str, whole_epochs: bool
) -> None:
    spec = dataclasses.replace(NETWORK, blocks=NETWORK.blocks[2 - num_frozen :])
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    plan = Plan(spec, recipe, num_frozen, num_train=20, input_dtype="uint8", whole_epochs=whole_epochs)
    before = variables_with_negative_zeros(spec, num_frozen)
    train = TRAIN.on_device() if whole_epochs else TRAIN
    start = plan.initial_state(before)
    (*_, end) = run_epochs(plan, build(plan), start, train, None, jax.random.key(1))
    after = {"params": end.state.params, "batch_stats": end.state.batch_stats}
    for collection in ("params", "batch_stats"):
        for index in range(num_frozen):
            name = f"block_{index}"
            assert bits(after[collection][name]) == bits(before[collection][name])
    for name in (f"block_{num_frozen}", "head"):
        for one, other in zip(bits(after["params"][name]), bits(before["params"][name]), strict=True):
            assert one != other
    new = f"block_{num_frozen}"
    for one, other in zip(bits(after["batch_stats"][new]), bits(before["batch_stats"][new]), strict=True):
        assert one != other


def num_products(program: Any) -> int:
    """Convolutions, oneDNN's or XLA's, and matrix products of a program, those of its inner programs too."""
    names = ("conv_general_dilated", "dot_general", "ffi_call")
    return sum(equation.primitive.name in names for equation in equations(program.jaxpr))


def program_of_a_step(spec: NetworkSpec, num_frozen: int, inputs: Any) -> Any:
    step = make_train_step(spec, RECIPE, steps_per_epoch=1, num_frozen=num_frozen)
    state = initial_state(
        initialise(jax.random.key(0), spec), make_optimizer(RECIPE, steps_per_epoch=1, num_frozen=num_frozen)
    )
    batch = Batch(inputs, jnp.zeros(8, jnp.int32))
    return jax.make_jaxpr(step)(state, batch, jax.random.key(0))


def test_train_step_with_a_frozen_prefix_adds_its_forward_convolutions_only() -> None:
    images = jnp.zeros((8, 6, 6, 1), jnp.uint8)
    features = jnp.zeros((8, *NETWORK.shape_before(2)), jnp.float32)
    prefix = dataclasses.replace(NETWORK, blocks=NETWORK.blocks[:2])
    variables = initialise(jax.random.key(0), prefix)
    apply = jax.make_jaxpr(lambda x: ConvNet(prefix).apply(variables, x, train=False))
    forward = num_products(apply(jnp.zeros((8, 6, 6, 1)))) - 1  # without its head
    assert forward >= 6  # a, b and skip of two blocks
    suffix_alone = num_products(program_of_a_step(NETWORK.suffix(2), 0, features))
    assert num_products(program_of_a_step(NETWORK, 2, images)) - suffix_alone == forward
    # Trained, each would add its weight gradient, and all but the first two, which see the images, an input gradient.
    assert num_products(program_of_a_step(NETWORK, 0, images)) - suffix_alone >= forward + 6 + 4


def test_gradient_with_respect_to_frozen_blocks_is_exactly_zero() -> None:
    spec = NetworkSpec((6, 6, 1), 3, "relu", "average", (NEW, NEW))
    variables = initialise(jax.random.key(0), spec)
    images = jnp.asarray(TRAIN.inputs[:8], jnp.float32)

    def loss(params: Any, stopped: bool) -> Any:
        params = stop_frozen_gradients(params, 1) if stopped else params
        logits, _ = ConvNet(spec).apply(
            {**variables, "params": params}, images, train=True, num_frozen=1, mutable=["batch_stats"]
        )
        return (logits**2).sum()

    for stopped in (False, True):  # either of the two stops is enough
        grads = jax.jit(jax.grad(loss), static_argnums=1)(variables["params"], stopped)
        for name, subtree in grads.items():
            largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(subtree))
            assert largest == 0.0 if name == "block_0" else largest > 0.0
