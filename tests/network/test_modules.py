"""The network that runs, against the same network written in NumPy, double precision, straight from the definition."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.network.pools import reference_pool
from vlga_jax.network.modules import ACTIVATIONS, ConvBlock, ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, equation 14
REFERENCE_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "tanh": np.tanh,
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * (np.exp(np.minimum(x, 0)) - 1)),
}


def reference_conv(params: dict[str, Any], x: np.ndarray, stride: int = 1) -> np.ndarray:
    kernel = np.asarray(params["kernel"], np.float64)
    # As TensorFlow defines 'same': what the last window lacks, half before and the rest, if odd one more, after.
    lacking = [max((size - 1) // stride * stride + len(kernel) - size, 0) for size in x.shape[1:3]]
    edges = [(lack // 2, lack - lack // 2) for lack in lacking]
    padded = np.pad(x, ((0, 0), *edges, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    y = np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel)
    return y + np.asarray(params.get("bias", 0.0), np.float64)


def reference_unit(
    params: dict[str, Any], stats: dict[str, Any], spec: ConvSpec, activation: str, x: np.ndarray, *, train: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    x, updated = reference_conv(params["conv"], x, spec.stride), {}
    if spec.batch_norm:
        mean, var = stats["norm"]["mean"], stats["norm"]["var"]
        if train:
            batch_mean, batch_var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            updated = {"norm": {"mean": 0.9 * mean + 0.1 * batch_mean, "var": 0.9 * var + 0.1 * batch_var}}
            mean, var = batch_mean, batch_var
        x = (x - mean) / np.sqrt(var + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    return REFERENCE_ACTIVATIONS[activation](x), updated


def reference_network(
    variables: dict[str, Any], spec: NetworkSpec, x: np.ndarray, *, train: bool, num_frozen: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Logits and new batch statistics: conv a, norm, activation, pool; conv b, norm, activation; plus the skip."""
    stats: dict[str, Any] = {}
    for index, block in enumerate(spec.blocks):
        name, inputs, learns = f"block_{index}", x, train and index >= num_frozen
        params, old = variables["params"][name], variables["batch_stats"].get(name, {})
        new: dict[str, Any] = {}
        for unit, conv in (("a", block.a), ("b", block.b)):
            if conv is not None:
                old_unit = old.get(unit, {})
                x, updated = reference_unit(params[unit], old_unit, conv, spec.activation, x, train=learns)
                if conv.batch_norm:
                    new[unit] = updated or old_unit
            if unit == "a" and block.pool is not None:
                x = reference_pool(x, block.pool.kind, block.pool.stride)
        if block.skip:
            x = x + reference_conv(params["skip"], inputs, block.stride)
        if new:
            stats[name] = new
    x = x.mean(axis=(1, 2)) if spec.head_pool == "average" else x.max(axis=(1, 2))
    head = variables["params"]["head"]
    return x @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"], np.float64), stats


def random_variables(spec: NetworkSpec, seed: int) -> dict[str, Any]:
    """Every leaf, biases and running statistics too, away from what initialisation would give."""
    shapes = jax.eval_shape(
        lambda: ConvNet(spec).init({"params": jax.random.key(0)}, jnp.zeros((1, *spec.input_shape)), train=False)
    )
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 2.0, leaf.shape).astype(np.float32)
        return rng.normal(0.0, 0.4, leaf.shape).astype(np.float32)

    return {"batch_stats": {}, **jax.tree_util.tree_map_with_path(draw, shapes)}


def two_blocks(activation: str, head_pool: str, size: tuple[int, int], *blocks: BlockSpec) -> NetworkSpec:
    return NetworkSpec((*size, 2), 3, activation, head_pool, blocks)


NETWORKS = [
    two_blocks(
        "relu",
        "average",
        (5, 7),
        BlockSpec(ConvSpec(4, 3, True), PoolSpec("max", 2), ConvSpec(3, 3, True), True, 0.0),
        BlockSpec(ConvSpec(3, 1, True), None, None, True, 0.0),
    ),
    two_blocks(
        "elu",
        "max",
        (6, 4),
        BlockSpec(ConvSpec(4, 5, True), PoolSpec("average", 2), ConvSpec(3, 1, False), False, 0.0),
        BlockSpec(ConvSpec(3, 3, False), PoolSpec("max", 1), ConvSpec(4, 3, True), True, 0.0),
    ),
    two_blocks(
        "leaky_relu",
        "average",
        (4, 5),
        BlockSpec(ConvSpec(4, 1, False), PoolSpec("max", 1), ConvSpec(3, 7, True), False, 0.0),
        BlockSpec(ConvSpec(3, 3, True), PoolSpec("average", 2), None, True, 0.0),
    ),
    two_blocks(
        "tanh",
        "max",
        (5, 5),
        BlockSpec(ConvSpec(4, 3, False), PoolSpec("average", 1), None, True, 0.0),
        BlockSpec(ConvSpec(3, 9, True), None, ConvSpec(2, 3, False), False, 0.0),
    ),
    two_blocks(
        "selu",
        "average",
        (3, 6),
        BlockSpec(ConvSpec(4, 3, True), None, ConvSpec(4, 5, True), True, 0.0),
        BlockSpec(ConvSpec(3, 3, True), PoolSpec("max", 2), ConvSpec(2, 1, True), True, 0.0),
    ),
    two_blocks(
        "elu",
        "average",
        (11, 14),
        BlockSpec(ConvSpec(4, 3, True, 2), PoolSpec("average", 2), ConvSpec(3, 3, True), True, 0.0),
        BlockSpec(ConvSpec(3, 3, False, 2), None, None, True, 0.0),
    ),
    two_blocks(
        "tanh",
        "average",
        (10, 9),
        BlockSpec(ConvSpec(4, 1, False, 4), PoolSpec("max", 1), ConvSpec(3, 3, False), True, 0.0),
        BlockSpec(ConvSpec(3, 5, True, 2), PoolSpec("average", 1), None, True, 0.0),
    ),
    NetworkSpec((5, 4, 2), 3, "relu", "average", ()),
    NetworkSpec((4, 3, 2), 3, "relu", "max", ()),
]


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: spec.activation)
def test_network_against_numpy_has_its_outputs_statistics_and_gradients(spec: NetworkSpec) -> None:
    variables = random_variables(spec, seed=1)
    rng = np.random.default_rng(2)
    x = rng.uniform(0.0, 1.0, (6, *spec.input_shape)).astype(np.float32)
    weights = rng.normal(size=(6, spec.num_classes))

    def objective(params: Any, x: Any) -> Any:
        logits, updated = ConvNet(spec).apply(
            {"params": params, "batch_stats": variables["batch_stats"]}, x, train=True, mutable=["batch_stats"]
        )
        return (logits * jnp.asarray(weights, jnp.float32)).sum(), (logits, updated.get("batch_stats", {}))

    @jax.jit
    def forward_and_backward(params: Any, x: Any) -> Any:
        inference = ConvNet(spec).apply({**variables, "params": params}, x, train=False)
        return jax.grad(objective, argnums=(0, 1), has_aux=True)(params, x), inference

    (gradients, (logits, stats)), inference = forward_and_backward(variables["params"], x)
    expected, expected_stats = reference_network(variables, spec, x, train=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_equal_structs(stats, expected_stats)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), stats, expected_stats)
    expected, _ = reference_network(variables, spec, x, train=False)
    np.testing.assert_allclose(inference, expected, rtol=1e-4, atol=1e-4)

    # The slope of the double precision network along a random direction of each leaf in turn, by central differences.
    point = (jax.tree.map(np.float64, variables["params"]), x.astype(np.float64))
    leaves, tree = jax.tree.flatten(point)
    for place, gradient in enumerate(jax.tree.leaves(gradients)):
        direction = rng.normal(size=leaves[place].shape)

        def along(step: float, place: int = place, direction: np.ndarray = direction) -> Any:
            moved = [leaf + step * direction if i == place else leaf for i, leaf in enumerate(leaves)]
            params, images = jax.tree.unflatten(tree, moved)
            return (reference_network({**variables, "params": params}, spec, images, train=True)[0] * weights).sum()

        slope = (along(1e-6) - along(-1e-6)) / 2e-6
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(np.vdot(gradient, direction) - slope) <= 1e-4 * scale + 1e-4, jax.tree_util.keystr(
            jax.tree_util.tree_leaves_with_path(point)[place][0]
        )


def test_network_with_frozen_blocks_runs_them_in_inference_mode() -> None:
    spec = NETWORKS[0]
    variables = random_variables(spec, seed=3)
    x = np.random.default_rng(4).uniform(0.0, 1.0, (6, *spec.input_shape)).astype(np.float32)
    apply = jax.jit(lambda x: ConvNet(spec).apply(variables, x, train=True, num_frozen=1, mutable=["batch_stats"]))
    logits, updated = apply(x)
    expected, expected_stats = reference_network(variables, spec, x, train=True, num_frozen=1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    stats = updated["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, stats["block_0"], variables["batch_stats"]["block_0"])
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), stats, expected_stats)
    unfrozen, _ = reference_network(variables, spec, x, train=True)
    assert np.abs(unfrozen - expected).max() > 0.05  # so that the comparison above can tell the modes apart


@pytest.mark.parametrize("name", sorted(REFERENCE_ACTIVATIONS))
def test_activations_have_their_values_and_slopes(name: str) -> None:
    x = np.array([-30.0, -2.0, -0.5, -1e-3, 1e-3, 0.5, 2.0, 30.0])
    values, slopes = jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))(jnp.asarray(x, jnp.float32))
    reference = REFERENCE_ACTIVATIONS[name]
    np.testing.assert_allclose(values, reference(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes, (reference(x + 1e-6) - reference(x - 1e-6)) / 2e-6, rtol=1e-4, atol=1e-5)


def test_activations_are_those_of_the_reference() -> None:
    assert set(ACTIVATIONS) == set(REFERENCE_ACTIVATIONS)


def test_block_of_every_combination_of_genes_builds_with_the_shape_of_its_spec() -> None:
    pools = [None, *(PoolSpec(kind, stride) for kind in ("max", "average") for stride in (1, 2))]
    second = (None, ConvSpec(3, 1, False), ConvSpec(3, 3, True))
    genes = itertools.product((False, True), (1, 2), pools, second, (False, True))
    for batch_norm, stride, pooling, b, skip in genes:
        spec = BlockSpec(ConvSpec(4, 3, batch_norm, stride), pooling, b, skip, 0.0)
        for block in (spec, dataclasses.replace(spec, dropout_rate=0.5)):

            def run(x: Any, block: BlockSpec = block) -> Any:
                rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
                return ConvBlock(block, "relu").init_with_output(rngs, x, train=True)

            outputs, variables = jax.eval_shape(run, jax.ShapeDtypeStruct((2, 5, 6, 3), jnp.float32))
            assert outputs.shape == (2, *block.out_shape((5, 6, 3))), block
            assert set(variables["params"]) == {"a"} | ({"b"} if b else set()) | ({"skip"} if skip else set())
