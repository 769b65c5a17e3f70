"""Inherited trees are merged by reference, and what is frozen costs the optimizer nothing and keeps its very bits."""

import dataclasses
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.network.transfer import (
    freeze,
    keep_frozen,
    labels,
    matching,
    merge,
    of_block,
    stop_frozen_gradients,
)
from vlga_jax.network.whitening import patch_statistics

NORMED = BlockSpec(ConvSpec(3, 3, True), None, None, True, 0.0)
PLAIN = BlockSpec(ConvSpec(3, 1, False), None, None, False, 0.0)
PAIR = BlockSpec(ConvSpec(3, 3, True), None, ConvSpec(4, 1, True), True, 0.0)


def network(*blocks: BlockSpec) -> NetworkSpec:
    return NetworkSpec((4, 4, 1), 2, "relu", "average", blocks)


def fresh(seed: int, spec: NetworkSpec) -> dict[str, Any]:
    return initialise(jax.random.key(seed), spec)


def test_merge_of_two_inherited_blocks_renames_and_keeps_the_very_arrays() -> None:
    whole = network(NORMED, PLAIN, NORMED, PLAIN)
    inherited, suffix = fresh(0, network(NORMED, PLAIN)), fresh(1, whole.suffix(2))
    merged = merge(inherited, suffix, 2)
    chex.assert_trees_all_equal_structs(merged, fresh(2, whole))
    sources = {
        "block_0": inherited["params"]["block_0"],
        "block_1": inherited["params"]["block_1"],
        "block_2": suffix["params"]["block_0"],
        "block_3": suffix["params"]["block_1"],
        "head": suffix["params"]["head"],
    }
    assert set(merged["params"]) == set(sources)
    for name, source in sources.items():
        for one, other in zip(jax.tree.leaves(merged["params"][name]), jax.tree.leaves(source), strict=True):
            assert one is other
    stats = merged["batch_stats"]
    assert set(stats) == {"block_0", "block_2"}
    assert stats["block_0"]["a"]["norm"]["mean"] is inherited["batch_stats"]["block_0"]["a"]["norm"]["mean"]
    assert stats["block_2"]["a"]["norm"]["mean"] is suffix["batch_stats"]["block_0"]["a"]["norm"]["mean"]


def test_merge_of_part_of_a_longer_network_leaves_the_rest_out() -> None:
    inherited, suffix = fresh(0, network(PLAIN, NORMED, NORMED)), fresh(1, network(PLAIN, NORMED, PLAIN).suffix(1))
    merged = merge(inherited, suffix, 1)
    assert set(merged["params"]) == {"block_0", "block_1", "block_2", "head"}
    assert merged["params"]["block_1"] is not inherited["params"]["block_1"]
    assert set(merged["batch_stats"]) == {"block_1"}
    assert merged["batch_stats"]["block_1"] == suffix["batch_stats"]["block_0"]


def test_merge_without_batch_norm_has_no_batch_stats() -> None:
    assert set(merge(fresh(0, network(PLAIN)), fresh(1, network(PLAIN)), 1)) == {"params"}


def test_merge_of_more_than_ten_blocks_numbers_them_as_numbers() -> None:
    inherited = {"params": {f"block_{index}": {"place": index} for index in range(10)}}
    suffix = {"params": {f"block_{index}": {"place": 10 + index} for index in range(11)}}
    params = merge(inherited, suffix, 10)["params"]
    assert params == {f"block_{index}": {"place": index} for index in range(21)}


def test_merge_changes_neither_tree() -> None:
    inherited, suffix = fresh(0, network(NORMED)), fresh(1, network(NORMED))
    before = [jax.tree.map(np.array, tree) for tree in (inherited, suffix)]
    merge(inherited, suffix, 1)
    jax.tree.map(np.testing.assert_array_equal, before, [inherited, suffix])


def test_merge_and_freezing_of_a_network_without_blocks_are_its_head() -> None:
    empty, whole = fresh(0, network()), fresh(1, network(NORMED))
    assert merge(empty, whole, 0)["params"] == whole["params"]
    assert merge(whole, empty, 0) == empty
    assert labels(empty["params"], 0) == {"head": {"kernel": "trainable", "bias": "trainable"}}
    assert keep_frozen(empty["params"], {}, 0) == empty["params"]
    assert of_block(empty, 0) == {}


def paths(tree: Any) -> dict[str, Any]:
    return {"/".join(step.key for step in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def taken(result: Any, new: Any, old: Any) -> dict[str, str]:
    """Where each leaf that is not the very array of `new` comes from in `old`: its path to the other's."""
    chex.assert_trees_all_equal_structs(result, new)
    chex.assert_trees_all_equal_shapes_and_dtypes(result, new)
    own, origins = paths(new), {id(leaf): path for path, leaf in paths(old).items()}
    return {path: origins[id(leaf)] for path, leaf in paths(result).items() if leaf is not own[path]}


def test_matching_of_equal_networks_takes_every_leaf() -> None:
    spec = network(PAIR, PLAIN, NORMED)
    new, old = fresh(0, spec), fresh(1, spec)
    assert taken(matching(new, old, (0, 1, 2)), new, old) == {path: path for path in paths(new)}


def test_matching_of_blocks_out_of_order_takes_what_fits_worked_by_hand() -> None:
    # PAIR gives out 4 channels, PLAIN 3; images have 1. What sees a block's input fits nowhere, and the head's kernel.
    new, old = fresh(0, network(PLAIN, PAIR)), fresh(1, network(PAIR, PLAIN))
    assert taken(matching(new, old, (1, 0)), new, old) == {
        "params/block_0/a/conv/bias": "params/block_1/a/conv/bias",
        "params/block_1/a/norm/scale": "params/block_0/a/norm/scale",
        "params/block_1/a/norm/bias": "params/block_0/a/norm/bias",
        "params/block_1/b/conv/kernel": "params/block_0/b/conv/kernel",
        "params/block_1/b/norm/scale": "params/block_0/b/norm/scale",
        "params/block_1/b/norm/bias": "params/block_0/b/norm/bias",
        "params/block_1/skip/bias": "params/block_0/skip/bias",
        "params/head/bias": "params/head/bias",
        "batch_stats/block_1/a/norm/mean": "batch_stats/block_0/a/norm/mean",
        "batch_stats/block_1/a/norm/var": "batch_stats/block_0/a/norm/var",
        "batch_stats/block_1/b/norm/mean": "batch_stats/block_0/b/norm/mean",
        "batch_stats/block_1/b/norm/var": "batch_stats/block_0/b/norm/var",
    }


def test_matching_takes_planted_values_bit_for_bit_and_changes_neither_tree() -> None:
    new, old = fresh(0, network(NORMED)), fresh(1, network(NORMED))
    odd = np.array([-0.0, np.nan, np.float32(1e-45)], np.float32)  # a sign, a not-a-number, a denormal
    old["batch_stats"]["block_0"]["a"]["norm"]["mean"] = odd
    before = [jax.tree.map(np.array, tree) for tree in (new, old)]
    result = matching(new, old, (0,))
    mean = result["batch_stats"]["block_0"]["a"]["norm"]["mean"]
    np.testing.assert_array_equal(mean.view(np.uint32), odd.view(np.uint32))
    jax.tree.map(np.testing.assert_array_equal, before, [new, old])


def test_matching_of_fresh_blocks_takes_the_head_alone() -> None:
    new, old = fresh(0, network(PAIR, NORMED)), fresh(1, network(PAIR, NORMED))
    head = {f"params/head/{leaf}": f"params/head/{leaf}" for leaf in ("kernel", "bias")}
    assert taken(matching(new, old, (None, None)), new, old) == head
    found = taken(matching(new, old, (None, 1)), new, old)
    assert found == head | {path: path for path in paths(new) if "block_1" in path}


@pytest.mark.parametrize("b_in_new", [True, False])
def test_matching_of_blocks_of_which_one_has_b_takes_the_rest(b_in_new: bool) -> None:
    one = dataclasses.replace(PAIR, b=ConvSpec(3, 1, True))  # so that the skip gives out as many channels
    both = [network(one), network(dataclasses.replace(one, b=None))]
    new, old = (fresh(seed, spec) for seed, spec in enumerate(both if b_in_new else both[::-1]))
    found = taken(matching(new, old, (0,)), new, old)
    assert found == {path: path for path in paths(new) if "/b/" not in path}


def test_matching_of_another_kernel_still_takes_its_norm() -> None:
    wider = dataclasses.replace(NORMED, a=ConvSpec(3, 5, True))
    new, old = fresh(0, network(wider)), fresh(1, network(NORMED))
    found = taken(matching(new, old, (0,)), new, old)
    assert found == {path: path for path in paths(new) if path != "params/block_0/a/conv/kernel"}


def test_matching_of_a_norm_that_the_other_lacks_leaves_it_fresh() -> None:
    bare = dataclasses.replace(NORMED, a=ConvSpec(3, 3, False))
    for specs, fresh_ones in (((NORMED, bare), ("/norm/",)), ((bare, NORMED), ("/a/conv/bias",))):
        new, old = (fresh(seed, network(spec)) for seed, spec in enumerate(specs))
        found = taken(matching(new, old, (0,)), new, old)
        assert found == {path: path for path in paths(new) if not any(part in path for part in fresh_ones)}


def test_matching_of_one_source_twice_gives_both_blocks_its_arrays() -> None:
    narrow = dataclasses.replace(PLAIN, a=ConvSpec(1, 1, False))
    new, old = fresh(0, network(narrow, narrow)), fresh(1, network(narrow))
    result = matching(new, old, (0, 0))["params"]
    for leaf in ("kernel", "bias"):
        assert result["block_0"]["a"]["conv"][leaf] is result["block_1"]["a"]["conv"][leaf]
        assert result["block_0"]["a"]["conv"][leaf] is old["params"]["block_0"]["a"]["conv"][leaf]


def test_matching_of_networks_without_blocks_is_about_the_head() -> None:
    empty, other, whole = fresh(0, network()), fresh(1, network()), fresh(2, network(NORMED))
    head = {f"params/head/{leaf}": f"params/head/{leaf}" for leaf in ("kernel", "bias")}
    bias = {"params/head/bias": "params/head/bias"}  # kernels are of 1 and of 3 channels
    assert taken(matching(empty, other, ()), empty, other) == head
    assert taken(matching(empty, whole, ()), empty, whole) == bias
    assert taken(matching(whole, empty, (None,)), whole, empty) == bias
    assert taken(matching(whole, empty, (0,)), whole, empty) == bias, "a block that is not there"


def test_matching_of_too_few_sources_raises() -> None:
    new = fresh(0, network(PLAIN, PLAIN))
    with pytest.raises(KeyError, match="block_1"):
        matching(new, new, (0,))


def test_matching_of_any_two_networks_keeps_the_tree_and_takes_whatever_fits() -> None:
    trees = [fresh(seed, network(*blocks)) for seed, blocks in enumerate(itertools.product((NORMED, PAIR), repeat=2))]
    for new, old in itertools.product(trees, repeat=2):
        for sources in itertools.product((None, 0, 1), repeat=2):
            moved = taken(matching(new, old, sources), new, old) if new is not old else {}
            for path, leaf in paths(new).items():
                collection, part, *place = path.split("/")
                source = part if part == "head" else f"block_{sources[int(part[-1])]}"
                origin = "/".join((collection, source, *place))
                fits = new is not old and origin in paths(old) and paths(old)[origin].shape == leaf.shape
                assert moved.get(path) == (origin if fits else None)


def test_of_block_gives_each_block_its_own_as_the_only_one() -> None:
    variables = fresh(0, network(PLAIN, NORMED))
    own = of_block(variables, 1)
    assert {collection: set(tree) for collection, tree in own.items()} == {
        "params": {"block_0"},
        "batch_stats": {"block_0"},
    }
    for collection, tree in own.items():
        assert tree["block_0"] is variables[collection]["block_1"]
    assert set(of_block(variables, 0)) == {"params"}


def test_whitening_goes_along_with_the_first_block() -> None:
    spec = dataclasses.replace(network(PLAIN, NORMED), whitening=True)
    found = patch_statistics(np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)[..., :1])
    old = initialise(jax.random.key(0), spec, found)
    assert of_block(old, 0)["batch_stats"] == {"whitening": found}
    assert set(of_block(old, 1)["batch_stats"]) == {"block_0"}
    merged = merge(old, fresh(1, network(NORMED)), 1)
    assert set(merged["batch_stats"]) == {"whitening", "block_1"}
    assert merged["batch_stats"]["whitening"] is old["batch_stats"]["whitening"]
    assert merge(old, old, 0)["batch_stats"] == old["batch_stats"], "nothing is inherited, the network has its own"
    other = initialise(jax.random.key(2), spec, {name: leaf + 1 for name, leaf in found.items()})
    stats = matching(other, old, (0, None))["batch_stats"]
    assert stats["whitening"] == old["batch_stats"]["whitening"]
    assert stats["block_1"] == other["batch_stats"]["block_1"]


def test_labels_name_the_leading_blocks_frozen() -> None:
    params = {f"block_{index}": {"a": {"kernel": 0, "bias": 0}} for index in (0, 1, 10)} | {"head": {"kernel": 0}}
    expected = {
        "block_0": {"a": {"kernel": "frozen", "bias": "frozen"}},
        "block_1": {"a": {"kernel": "trainable", "bias": "trainable"}},
        "block_10": {"a": {"kernel": "trainable", "bias": "trainable"}},
        "head": {"kernel": "trainable"},
    }
    assert labels(params, 1) == expected
    assert set(jax.tree.leaves(labels(params, 0))) == {"trainable"}


def test_freeze_gives_frozen_leaves_zero_updates_and_no_moments() -> None:
    params = jax.tree.map(jnp.asarray, fresh(0, network(NORMED, PLAIN))["params"])
    optimizer = freeze(optax.adam(0.1), 1)
    state = optimizer.init(params)
    num_trainable = len(jax.tree.leaves([params["block_1"], params["head"]]))
    assert sum(leaf.ndim > 0 for leaf in jax.tree.leaves(state)) == 2 * num_trainable  # first and second moments
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
        updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    for leaf in jax.tree.leaves(updates["block_0"]):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape, np.float32))
    for leaf in jax.tree.leaves([updates["block_1"], updates["head"]]):  # Adam's first step is the rate itself
        np.testing.assert_allclose(leaf, np.full(leaf.shape, -0.1, np.float32), rtol=1e-5)


def test_freeze_of_nothing_is_the_optimizer_itself() -> None:
    params = {"block_0": {"kernel": jnp.array([1.0, -2.0])}, "head": {"kernel": jnp.array([3.0])}}
    grads = {"block_0": {"kernel": jnp.array([0.5, 0.25])}, "head": {"kernel": jnp.array([-1.0])}}
    optimizer = freeze(optax.sgd(0.5), 0)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["block_0"]["kernel"], [-0.25, -0.125])
    np.testing.assert_array_equal(updates["head"]["kernel"], [0.5])


def test_stop_frozen_gradients_leaves_values_and_zeroes_the_frozen_slopes() -> None:
    params = {"block_0": jnp.array([2.0, -0.0]), "block_1": jnp.array([3.0]), "head": jnp.array([5.0])}

    def product(params: dict[str, Any]) -> Any:
        stopped = stop_frozen_gradients(params, 1)
        return (stopped["block_0"].sum() * stopped["block_1"] * stopped["head"]).sum()

    value, grads = jax.value_and_grad(product)(params)
    assert value == 30.0
    np.testing.assert_array_equal(grads["block_0"], [0.0, 0.0])
    np.testing.assert_array_equal(grads["block_1"], [10.0])
    np.testing.assert_array_equal(grads["head"], [6.0])


@pytest.mark.parametrize("num_frozen", [0, 1, 2])
def test_keep_frozen_takes_whole_subtrees_bit_for_bit(num_frozen: int) -> None:
    old = {name: np.full(1, -0.0, np.float32) for name in ("block_0", "block_1", "head")}
    new = jax.tree.map(lambda leaf: leaf + np.float32(0.0), old)  # -0.0 + 0.0 is 0.0
    kept = keep_frozen(new, old, num_frozen)
    signs = {name: bool(np.signbit(leaf[0])) for name, leaf in kept.items()}
    assert signs == {"block_0": num_frozen > 0, "block_1": num_frozen > 1, "head": False}
