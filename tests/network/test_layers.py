"""Tuned layers against plain ones, and bfloat16 against float32."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.jaxprs import equations
from vlga_jax.network import onednn
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvBlock, ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("stride", [1, 2])
def test_tuned_layers_give_the_outputs_and_gradients_of_plain_ones(kind: str, stride: int) -> None:
    block = BlockSpec(ConvSpec(8, 5, True), PoolSpec(kind, stride), ConvSpec(16, 1, True), True, 0.0)
    spec = NetworkSpec((12, 8, 2), 3, "elu", "average", (block, block))
    images = jax.random.normal(jax.random.key(0), (32, *spec.input_shape))
    variables = initialise(jax.random.key(1), spec)

    def results(layers: str) -> Any:
        def loss(params: Any) -> Any:
            logits, updated = ConvNet(spec, layers).apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return jnp.sin(logits).sum(), (logits, updated)

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    tuned, plain = results("tuned"), results("plain")
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain[0]))  # gradients that cancel are small
    chex.assert_trees_all_close(tuned[0], plain[0], rtol=0, atol=1e-5 * largest)
    chex.assert_trees_all_close(tuned[1], plain[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", ["tuned", "plain"])
def test_network_in_bfloat16_has_float32_variables_and_logits_near_those_of_float32(layers: str) -> None:
    block = BlockSpec(ConvSpec(8, 3, True), PoolSpec("average", 2), ConvSpec(8, 1, False), True, 0.0)
    spec = NetworkSpec((6, 6, 2), 3, "relu", "average", (block, block))
    images = jax.random.uniform(jax.random.key(0), (16, *spec.input_shape))
    nets = [ConvNet(spec, layers, precision) for precision in ("bfloat16", "float32")]
    made = [jax.eval_shape(lambda net=net: net.init(jax.random.key(1), images, train=False)) for net in nets]
    assert jax.tree.map(lambda leaf: leaf.dtype, made[0]) == jax.tree.map(lambda leaf: leaf.dtype, made[1])
    variables = initialise(jax.random.key(1), spec)
    apply = jax.jit(lambda net: net.apply(variables, images, train=True, mutable=["batch_stats"]), static_argnums=0)
    (half, updated), (exact, _) = (apply(net) for net in nets)
    assert {leaf.dtype for leaf in jax.tree.leaves((half, updated))} == {np.dtype("float32")}
    np.testing.assert_allclose(half, exact, rtol=0, atol=0.05 * float(jnp.abs(exact).max()))
    assert (half != exact).any(), "precision is heeded"
    inner = jax.eval_shape(
        lambda x: ConvBlock(block, "relu", layers).init_with_output(jax.random.key(2), x, train=False)[0],
        images.astype(jnp.bfloat16),
    )
    assert inner.dtype == jnp.bfloat16


def test_gradients_of_a_network_in_bfloat16_are_summed_over_a_batch_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "computes_bfloat16", lambda: False)  # as on a GPU
    block = BlockSpec(ConvSpec(8, 3, False), PoolSpec("average", 2), ConvSpec(8, 1, True), True, 0.0)
    net = ConvNet(NetworkSpec((6, 6, 2), 3, "elu", "average", (block, block)), precision="bfloat16")
    images = jnp.zeros((16, 6, 6, 2))
    variables = jax.eval_shape(lambda: net.init(jax.random.key(1), images, train=False))

    def loss(params: Any, batch_stats: Any) -> Any:
        kept = {"params": params, "batch_stats": batch_stats}
        logits, _ = net.apply(kept, images, train=True, mutable=["batch_stats"])
        return logits.sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(variables["params"], variables["batch_stats"])
    sums = [equation.invars[0].aval for equation in equations(jaxpr.jaxpr) if equation.primitive.name == "reduce_sum"]
    over_batch = [summed for summed in sums if summed.size >= 16 * 8]
    each_block = 2 + 4  # two biases; batch norm's sums, forward and backward
    assert len(over_batch) == 2 * each_block + 1, "and the head's mean"
    assert {summed.dtype for summed in over_batch} == {np.dtype("float32")}


@pytest.mark.parametrize(("layers", "made_for_it"), [("tuned", True), ("tuned", False), ("plain", True)])
def test_network_in_bfloat16_rounds_only_what_convolutions_multiply_where_a_cpu_does_so_fast(
    layers: str, made_for_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("available", "computes_bfloat16"):
        monkeypatch.setattr(onednn, name, lambda: made_for_it)
    block = BlockSpec(ConvSpec(8, 3, True), PoolSpec("max", 1), ConvSpec(8, 1, False), True, 0.0)
    net = ConvNet(NetworkSpec((6, 6, 2), 3, "relu", "average", (block, block)), layers, "bfloat16")
    images = jnp.zeros((4, 6, 6, 2))
    variables = jax.eval_shape(lambda: net.init(jax.random.key(1), images, train=False))

    def loss(params: Any, batch_stats: Any) -> Any:
        kept = {"params": params, "batch_stats": batch_stats}
        return net.apply(kept, images, train=True, mutable=["batch_stats"])[0].sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(variables["params"], variables["batch_stats"])
    found = list(equations(jaxpr.jaxpr))
    calls = [each for each in found if each.primitive.name == "ffi_call"]
    pools = [each.outvars[0].aval.dtype for each in found if each.primitive.name == "max"]
    if layers == "plain" or not made_for_it:
        assert not calls and jnp.bfloat16 in pools
        return
    assert len(calls) == 2 * 3 * 3, "three convolutions a block, each forward and with two gradients"
    assert {operand.aval.dtype for call in calls for operand in call.invars} == {jnp.dtype("bfloat16")}
    assert {result.aval.dtype for call in calls for result in call.outvars} == {jnp.dtype("float32")}
    assert pools and set(pools) == {jnp.dtype("float32")}


@pytest.mark.parametrize("stride", [1, 2])
def test_bias_in_bfloat16_has_the_gradient_of_float32(stride: int) -> None:
    block = BlockSpec(ConvSpec(4, 3, False, stride), None, None, False, 0.0)
    images = jax.random.normal(jax.random.key(0), (64, 7, 5, 2))
    variables = jax.jit(lambda: ConvBlock(block, "leaky_relu").init(jax.random.key(1), images, train=False))()

    def gradient(dtype: Any) -> Any:
        def loss(params: Any) -> Any:
            outputs: Any = ConvBlock(block, "leaky_relu").apply({"params": params}, images.astype(dtype), train=True)
            return outputs.astype(jnp.float32).sum()

        return jax.jit(jax.grad(loss))(variables["params"])["a"]["conv"]["bias"]

    half, exact = gradient(jnp.bfloat16), gradient(jnp.float32)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, exact, rtol=0.02)
