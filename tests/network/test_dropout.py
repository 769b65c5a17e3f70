"""Dropout at a block's end: in training only, never in frozen blocks, and the same for a suffix as for the whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvBlock, ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec


def test_dropout_drops_its_share_in_training_only() -> None:
    block = BlockSpec(ConvSpec(8, 1, False), None, None, False, 0.25)
    x = jnp.asarray(np.random.default_rng(6).uniform(0.5, 1.0, (8, 8, 8, 1)), jnp.float32)
    variables = {"params": {"a": {"conv": {"kernel": jnp.ones((1, 1, 1, 8)), "bias": jnp.zeros(8)}}}}
    model = ConvBlock(block, "relu")
    inference: Any = jax.jit(lambda: model.apply(variables, x, train=False))()
    np.testing.assert_array_equal(inference, np.broadcast_to(x, inference.shape))
    dropped: Any = jax.jit(lambda key: model.apply(variables, x, train=True, rngs={"dropout": key}))(jax.random.key(7))
    kept = np.asarray(dropped) != 0
    np.testing.assert_allclose(np.asarray(dropped)[kept], np.asarray(inference)[kept] / 0.75, rtol=1e-6)
    deviation = (0.25 * 0.75 / kept.size) ** 0.5  # of the share dropped, 4,096 values
    assert abs((~kept).mean() - 0.25) < 4 * deviation


@pytest.fixture(scope="module")
def dropping() -> tuple[NetworkSpec, dict[str, Any], jax.Array]:
    """A network whose three blocks all drop half of their outputs, its variables and some images."""
    block = BlockSpec(ConvSpec(2, 1, False), None, None, False, 0.5)
    spec = NetworkSpec((3, 3, 1), 2, "tanh", "average", (block, block, block))
    images = jnp.asarray(np.random.default_rng(9).uniform(size=(4, 3, 3, 1)), jnp.float32)
    return spec, {"params": initialise(jax.random.key(8), spec)["params"]}, images


def test_dropout_of_frozen_blocks_never_drops(dropping: Any) -> None:
    spec, variables, images = dropping
    frozen: Any = ConvNet(spec).apply(variables, images, train=True, num_frozen=3)  # would raise without a dropout key
    inference: Any = ConvNet(spec).apply(variables, images, train=False)
    np.testing.assert_allclose(frozen, inference, rtol=1e-6)


def test_dropout_of_a_suffix_drops_what_the_whole_network_does(dropping: Any) -> None:
    spec, variables, images = dropping
    rngs, params = {"dropout": jax.random.key(1)}, variables["params"]
    first = ConvBlock(spec.blocks[0], spec.activation)
    features: Any = first.apply({"params": params["block_0"]}, images, train=False)
    own = {"block_0": params["block_1"], "block_1": params["block_2"], "head": params["head"]}
    suffix: Any = ConvNet(spec.suffix(1)).apply({"params": own}, features, train=True, rngs=rngs)
    whole: Any = ConvNet(spec).apply(variables, images, train=True, num_frozen=1, rngs=rngs)
    np.testing.assert_allclose(suffix, whole, rtol=1e-5)
