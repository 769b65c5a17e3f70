from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training.inference import Answers, make_eval_step

FIRST = BlockSpec(ConvSpec(2, 3, True), PoolSpec("max", 2), None, True, 0.5)
SECOND = BlockSpec(ConvSpec(3, 1, False), None, ConvSpec(5, 3, True), False, 0.0)
BATCH = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1)).astype(np.uint8)


def answers(spec: NetworkSpec, variables: Any, precision: str = "float32") -> Answers:
    return jax.jit(make_eval_step(spec, precision=precision))(
        variables["params"], variables.get("batch_stats", {}), BATCH
    )


@pytest.mark.parametrize("blocks", [(FIRST,), (SECOND, FIRST), (FIRST, SECOND)])
def test_eval_step_gives_logits_and_outputs_of_a_network_that_learns_nothing(blocks: tuple[BlockSpec, ...]) -> None:
    spec = NetworkSpec((4, 4, 1), 3, "tanh", "average", blocks)
    variables = initialise(jax.random.key(2), spec)
    images = jnp.asarray(np.float32(BATCH) / np.float32(255))
    logits, captured = ConvNet(spec).apply(variables, images, train=False, capture_intermediates=True)
    found = answers(spec, variables)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-6)
    (expected,) = captured["intermediates"][f"block_{len(blocks) - 1}"]["__call__"]
    assert found.outputs.shape == (6, *spec.shape_before(len(blocks)))
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-5, atol=1e-6)


def test_eval_step_in_bfloat16_gives_outputs_of_that_precision_and_float32_logits() -> None:
    spec = NetworkSpec((4, 4, 1), 3, "tanh", "average", (FIRST,))
    found = answers(spec, initialise(jax.random.key(2), spec), "bfloat16")
    assert (found.outputs.dtype, found.logits.dtype) == (jnp.bfloat16, np.float32)


def test_eval_step_of_a_network_without_blocks_gives_its_inputs() -> None:
    spec = NetworkSpec((4, 4, 1), 3, "tanh", "max", ())
    found = answers(spec, initialise(jax.random.key(2), spec))
    assert found.logits.shape == (6, 3)
    np.testing.assert_array_equal(found.outputs, BATCH)
