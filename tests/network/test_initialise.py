"""Fresh weights: Flax's distributions and constants, from the key alone, without a program per network."""

import dataclasses
from typing import Any

import chex
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vlga_jax.network.initialise import initialise, variable_shapes
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.network.whitening import patch_statistics

SPEC = NetworkSpec(
    (6, 6, 3),
    10,
    "relu",
    "average",
    (BlockSpec(ConvSpec(64, 5, True), PoolSpec("max", 2), ConvSpec(64, 3, False), True, 0.1),),
)
KERNELS = {  # fan-in of each kernel: the inputs of one output value
    ("block_0", "a", "conv"): 5 * 5 * 3,
    ("block_0", "b", "conv"): 3 * 3 * 64,
    ("block_0", "skip"): 3,
    ("head",): 64,
}


def leaf_at(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


@pytest.fixture(scope="module")
def flax_variables() -> Any:
    images = jnp.zeros((1, *SPEC.input_shape))
    return jax.jit(lambda key: ConvNet(SPEC).init({"params": key}, images, train=False))(jax.random.key(0))


def test_initialise_has_flaxs_tree_shapes_and_constants(flax_variables: Any) -> None:
    fresh = initialise(jax.random.key(1), SPEC)
    chex.assert_trees_all_equal_structs(fresh, flax_variables)
    for (path, own), flax in zip(
        jax.tree_util.tree_leaves_with_path(fresh), jax.tree.leaves(flax_variables), strict=True
    ):
        assert isinstance(own, np.ndarray)
        assert (own.shape, own.dtype) == (flax.shape, flax.dtype)
        if path[-1].key != "kernel":
            np.testing.assert_array_equal(own, flax)


@pytest.mark.parametrize("path", KERNELS, ids="/".join)
def test_initialise_draws_kernels_as_flax_does(path: tuple[str, ...], flax_variables: Any) -> None:
    deviation = KERNELS[path] ** -0.5
    samples = [leaf_at(initialise(jax.random.key(seed), SPEC)["params"], path)["kernel"].ravel() for seed in range(4)]
    drawn = np.concatenate(samples)
    # A normal cut at 2 has 0.7740 of its variance left and kurtosis 2.366: the errors of mean and standard deviation.
    assert abs(drawn.mean()) < 5 * deviation / drawn.size**0.5
    assert abs(drawn.std() / deviation - 1) < 5 * (1.366 / 4 / drawn.size) ** 0.5
    assert np.abs(drawn).max() <= 2 * deviation / 0.7740**0.5 * 1.001
    flax = np.asarray(leaf_at(flax_variables["params"], path)["kernel"]).ravel()
    assert stats.ks_2samp(drawn, flax).pvalue > 1e-4


def test_initialise_draws_each_kernel_independently() -> None:
    params = initialise(jax.random.key(2), SPEC)["params"]
    drawn = [leaf_at(params, path)["kernel"].ravel() for path in KERNELS]
    for place, one in enumerate(drawn):
        for other in drawn[place + 1 :]:
            size = min(one.size, other.size)
            assert abs(np.corrcoef(one[:size], other[:size])[0, 1]) < 5 / size**0.5
    everything = np.concatenate(drawn) / np.repeat([KERNELS[path] ** -0.5 for path in KERNELS], [d.size for d in drawn])
    assert np.unique(everything).size > 0.99 * everything.size  # no stretch is drawn twice: 24 bits make few ties


def test_initialise_with_the_same_key_gives_the_same_bits() -> None:
    one, other = (initialise(jax.random.key(3), SPEC) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_initialise_with_another_key_gives_other_kernels() -> None:
    one, other = (initialise(jax.random.key(seed), SPEC)["params"] for seed in (3, 4))
    for path in KERNELS:
        assert np.mean(leaf_at(one, path)["kernel"] == leaf_at(other, path)["kernel"]) < 0.01


def test_initialise_of_a_network_without_batch_norm_has_no_statistics() -> None:
    spec = NetworkSpec((3, 3, 1), 2, "relu", "max", (BlockSpec(ConvSpec(2, 1, False), None, None, False, 0.0),))
    assert set(initialise(jax.random.key(0), spec)) == {"params"}


def test_initialise_of_a_network_without_blocks_is_its_head() -> None:
    spec = dataclasses.replace(SPEC, blocks=())
    fresh = initialise(jax.random.key(0), spec)
    shapes = variable_shapes(spec)
    chex.assert_trees_all_equal_structs(fresh, shapes, {"params": {"head": {"kernel": 0, "bias": 0}}})
    chex.assert_trees_all_equal_shapes_and_dtypes(fresh, shapes)
    assert fresh["params"]["head"]["kernel"].shape == (3, 10)
    assert (fresh["params"]["head"]["kernel"] != 0).all()


def test_initialise_of_another_network_compiles_nothing() -> None:
    initialise(jax.random.key(5), SPEC)
    other = dataclasses.replace(SPEC, blocks=(*SPEC.blocks, BlockSpec(ConvSpec(200, 9, True), None, None, True, 0.0)))
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x + 1.5)(np.float32(0.0))
        assert len(compiled) == 1, "compilations are no longer reported under this name"
        fresh = initialise(jax.random.key(6), other)
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert fresh["params"]["block_1"]["a"]["conv"]["kernel"].shape == (9, 9, 64, 200)


def test_variable_shapes_are_those_of_flax(flax_variables: Any) -> None:
    shapes = variable_shapes(SPEC)
    chex.assert_trees_all_equal_structs(shapes, flax_variables)
    for own, flax in zip(jax.tree.leaves(shapes), jax.tree.leaves(flax_variables), strict=True):
        assert (own.shape, own.dtype) == (flax.shape, flax.dtype)


def test_initialise_of_a_network_that_whitens_takes_the_statistics_and_draws_what_it_would() -> None:
    white = dataclasses.replace(SPEC, whitening=True)
    with pytest.raises(ValueError, match="statistics"):
        initialise(jax.random.key(7), white)
    found = patch_statistics(np.arange(6 * 6 * 3 * 2, dtype=np.uint8).reshape(2, 6, 6, 3))
    fresh = initialise(jax.random.key(7), white, found)
    chex.assert_trees_all_equal_shapes_and_dtypes(fresh, variable_shapes(white))
    assert fresh["batch_stats"]["whitening"] is found
    # The same draws for a network that sees twelve channels: the statistics take none.
    wide = initialise(jax.random.key(7), dataclasses.replace(SPEC, input_shape=(6, 6, 12)))
    chex.assert_trees_all_equal(fresh["params"], wide["params"])
