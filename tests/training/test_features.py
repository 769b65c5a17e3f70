"""Cached features are the frozen prefix's outputs, however they were come by, and train the same networks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.recipes import PLAIN
from vlga_jax.fitness.evaluation import Limits, Request
from vlga_jax.fitness.executors.local import Ancestor, LocalExecutor
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training import features as features_module
from vlga_jax.training import memory
from vlga_jax.training.data import DataConfig, load_training_data
from vlga_jax.training.examples import Examples
from vlga_jax.training.features import (
    PhaseData,
    PrefixFeatures,
    fits_in_memory,
    fits_on_device,
    to_device_if_it_fits,
)
from vlga_jax.training.programs import Plan, build_evaluation

FIRST = BlockSpec(ConvSpec(4, 3, True), PoolSpec("max", 2), ConvSpec(3, 3, False), True, 0.5)
SECOND = BlockSpec(ConvSpec(5, 1, True), PoolSpec("average", 2), None, False, 0.0)
NETWORK = NetworkSpec((5, 6, 2), 3, "elu", "average", (FIRST, SECOND))
RNG = np.random.default_rng(0)


def examples(size: int) -> Examples:
    images = RNG.integers(0, 256, (size, 5, 6, 2)).astype(np.uint8)
    return Examples(images, RNG.integers(0, 3, size).astype(np.int32))


CHILD = Plan(NETWORK, PLAIN, num_frozen=1, num_train=300, input_dtype="uint8", whole_epochs=False)
PARENT = dataclasses.replace(CHILD, spec=dataclasses.replace(NETWORK, blocks=NETWORK.blocks[:1]), num_frozen=0)
IMAGES = PhaseData(examples(300), examples(7))  # neither a multiple of any batch


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    fresh = initialise(jax.random.key(0), NETWORK)
    moved = jax.tree.map(lambda leaf: leaf + RNG.uniform(0.1, 0.5, leaf.shape), fresh["batch_stats"])
    return {**fresh, "batch_stats": jax.tree.map(np.float32, moved)}


@pytest.fixture(scope="module")
def recomputed(variables: dict[str, Any]) -> PhaseData:
    return PrefixFeatures(IMAGES, build_evaluation).of("child", "parent", CHILD, variables, 1)


def inputs_and_labels(data: PhaseData) -> list[np.ndarray]:
    both = (data.train, data.validation)  # on the device rows follow that are no examples
    return [array for part in both for array in (np.asarray(part.inputs)[: len(part)], np.asarray(part.labels))]


def test_features_are_the_outputs_of_the_last_block_of_the_whole_network(
    recomputed: PhaseData, variables: dict[str, Any]
) -> None:
    whole = jax.jit(lambda x: ConvNet(NETWORK).apply(variables, x, train=False, capture_intermediates=True))
    for images, features in ((IMAGES.train, recomputed.train), (IMAGES.validation, recomputed.validation)):
        _, captured = whole(np.float32(images.inputs) / np.float32(255))
        expected = captured["intermediates"]["block_1"]["__call__"][0]
        assert features.inputs.shape == (len(images), 2, 2, 5)
        assert features.inputs.dtype == np.float32
        np.testing.assert_allclose(features.inputs, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(features.labels, images.labels)


def test_features_continued_from_the_previous_phase_have_the_same_bits(
    recomputed: PhaseData, variables: dict[str, Any]
) -> None:
    prefix = PrefixFeatures(IMAGES, build_evaluation)
    prefix.of("parent", None, PARENT, variables, 0)
    continued = prefix.of("child", "parent", CHILD, variables, 1)
    for one, other in zip(inputs_and_labels(continued), inputs_and_labels(recomputed), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def test_features_of_an_image_do_not_depend_on_its_batch(recomputed: PhaseData, variables: dict[str, Any]) -> None:
    order = np.random.default_rng(1).permutation(300)[:290]
    assert isinstance(IMAGES.train.inputs, np.ndarray)
    shuffled = Examples(IMAGES.train.inputs[order], np.asarray(IMAGES.train.labels)[order])
    features = PrefixFeatures(PhaseData(shuffled, IMAGES.validation), build_evaluation).of(
        "child", "parent", CHILD, variables, 1
    )
    np.testing.assert_array_equal(features.train.inputs, np.asarray(recomputed.train.inputs)[order])


def spoiled(variables: dict[str, Any]) -> dict[str, Any]:
    """The same variables with a first block that would be noticed if it were used."""
    params = variables["params"]
    return {**variables, "params": {**params, "block_0": jax.tree.map(lambda x: x * np.nan, params["block_0"])}}


def test_features_of_a_child_of_the_newest_prefix_use_only_its_new_block(
    recomputed: PhaseData, variables: dict[str, Any]
) -> None:
    prefix = PrefixFeatures(IMAGES, build_evaluation)
    prefix.of("parent", None, PARENT, variables, 0)
    continued = prefix.of("child", "parent", CHILD, spoiled(variables), 1)
    np.testing.assert_array_equal(continued.train.inputs, recomputed.train.inputs)


@pytest.mark.parametrize(("ancestor", "num_blocks"), [("stranger", 1), (None, 0), ("parent", 0)])
def test_features_of_another_parents_child_start_from_the_images(
    ancestor: str | None, num_blocks: int, variables: dict[str, Any]
) -> None:
    prefix = PrefixFeatures(IMAGES, build_evaluation)
    prefix.of("parent", None, PARENT, variables, 0)
    features = prefix.of("child", ancestor, CHILD, spoiled(variables), num_blocks)
    assert np.isnan(features.train.inputs).all()


def test_features_of_the_newest_prefix_are_remembered(variables: dict[str, Any]) -> None:
    prefix = PrefixFeatures(IMAGES, build_evaluation)
    once = prefix.of("parent", None, PARENT, variables, 0)
    assert prefix.of("parent", None, PARENT, spoiled(variables), 0) is once


def test_fits_in_memory_up_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlga_jax.training.features.SHARE_OF_MEMORY", 0.5)
    needed = 3 * 3 * 3 * 10 * 4  # the first block leaves 3x3x3 float32 of each of ten examples
    monkeypatch.setattr(memory, "host_bytes", lambda: 2 * needed)
    assert fits_in_memory(NETWORK, 1, 10, "float32")
    assert not fits_in_memory(NETWORK, 1, 11, "float32")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Called with so many bytes, makes this a device that has room for as many bytes of features."""

    def have(num_bytes: int) -> None:
        monkeypatch.setattr(features_module, "_fits_on_device", lambda size: size <= num_bytes)

    return have


def test_fits_on_device_up_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlga_jax.training.features.SHARE_OF_DEVICE", 0.5)
    needed = 3 * 3 * 3 * 10 * 2  # bfloat16
    monkeypatch.setattr(memory, "total_bytes", lambda: 2 * needed)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fits_on_device(NETWORK, 1, 10, "bfloat16")
    assert not fits_on_device(NETWORK, 1, 11, "bfloat16") and not fits_on_device(NETWORK, 1, 10, "float32")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert not fits_on_device(NETWORK, 1, 10, "bfloat16")


OF_PARENT, OF_CHILD = 4 * 307 * 3 * 3 * 3, 4 * 307 * 2 * 2 * 5  # bytes of their features


@pytest.mark.parametrize(
    ("available", "parents", "childs", "continues"),
    [
        (OF_PARENT + OF_CHILD, True, True, True),
        (OF_PARENT, True, True, False),
        (OF_CHILD, False, True, True),
        (0, False, False, True),
    ],
)
def test_features_lie_on_the_device_where_there_is_room(
    available: int, parents: bool, childs: bool, continues: bool, room: Any, recomputed: PhaseData, variables: Any
) -> None:
    room(available)
    prefix = PrefixFeatures(IMAGES, build_evaluation)
    of_parent = prefix.of("parent", None, PARENT, variables, 0)
    of_child = prefix.of("child", "parent", CHILD, variables, 1)
    assert [isinstance(each.train.inputs, jax.Array) for each in (of_parent, of_child)] == [parents, childs]
    for one, other in zip(inputs_and_labels(of_child), inputs_and_labels(recomputed), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    prefix = PrefixFeatures(IMAGES, build_evaluation)
    prefix.of("parent", None, PARENT, variables, 0)
    from_old = prefix.of("child", "parent", CHILD, spoiled(variables), 1)
    assert np.isnan(np.asarray(from_old.train.inputs)).all() != continues


def test_features_of_a_device_that_others_fill_lie_on_the_host(
    room: Any,
    recomputed: PhaseData,
    variables: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    room(10**9)
    monkeypatch.setattr(features_module, "with_batch", full)
    found = PrefixFeatures(IMAGES, build_evaluation).of("child", "parent", CHILD, variables, 1)
    assert isinstance(found.train.inputs, np.ndarray)
    np.testing.assert_array_equal(found.train.inputs, recomputed.train.inputs)
    assert "stay on the host (RESOURCE_EXHAUSTED" in caplog.text


def test_features_on_the_device_are_not_copied_there_again(room: Any, variables: Any) -> None:
    room(OF_PARENT)
    features = PrefixFeatures(IMAGES, build_evaluation).of("parent", None, PARENT, variables, 0)
    again = to_device_if_it_fits(features)
    assert again.train.inputs is features.train.inputs and again.validation.inputs is features.validation.inputs


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="data go to the device there")
def test_to_device_if_it_fits_leaves_them_on_the_host_on_a_cpu() -> None:
    assert to_device_if_it_fits(IMAGES) is IMAGES


RECIPE = dataclasses.replace(PLAIN, epochs=5, batch_size=64)
DIGITS = DataConfig(
    name="digits",
    dir="",
    num_train_examples=0,
    num_test_examples=0,
    validation_fraction=0.2,
    split_seed=0,
    image_size=0,
    cache_dir="",
)


def given(ancestor: Ancestor | None, request: Request) -> Ancestor | None:
    return ancestor


def test_training_on_features_gives_the_accuracies_of_training_on_images() -> None:
    digits = load_training_data(DIGITS)
    images = PhaseData(
        Examples(digits.train_images, digits.train_labels), Examples(digits.validation_images, digits.validation_labels)
    )
    executors = [LocalExecutor(images, cache_features=cached, compile_threads=1) for cached in (True, False)]
    appended = [  # per phase
        [BlockSpec(ConvSpec(8, 3, True), PoolSpec("max", 2), ConvSpec(16, 3, True), False, 0.0)],
        [
            BlockSpec(ConvSpec(8, 3, True), None, None, True, 0.0),
            BlockSpec(ConvSpec(4, 1, False), PoolSpec("average", 2), ConvSpec(8, 3, False), False, 0.25),
        ],
        [BlockSpec(ConvSpec(8, 3, True), PoolSpec("max", 2), None, True, 0.0)],
    ]
    blocks: tuple[BlockSpec, ...] = ()
    ancestor: Ancestor | None = None
    for phase, choices in enumerate(appended):
        requests = [
            Request(
                network=NetworkSpec((8, 8, 1), 10, "relu", "average", (*blocks, choice)),
                num_inherited=phase,
                inherited_from=None if ancestor is None else ancestor.request.digest,
                recipe=RECIPE,
                limits=Limits(0.0, 0, 0),
                data=digits.fingerprint,
                seed=0,
            )
            for choice in choices
        ]
        find = functools.partial(given, ancestor)
        cached = list(executors[0].run(requests, find))
        fresh = list(executors[1].run(requests, find)) if phase else cached  # the first phase has no prefix
        for one, other in zip(cached, fresh, strict=True):
            assert one.evaluation.status == other.evaluation.status == "ok"
            assert abs(one.evaluation.fitness - other.evaluation.fitness) <= 1e-3
            assert one.evaluation.fitness > 0.3  # it learned, so that equal is not equally nothing
            np.testing.assert_allclose(one.evaluation.losses, other.evaluation.losses, rtol=1e-3)
            if ancestor is not None:  # what was inherited, the very bits
                for trained in (one, other):
                    assert trained.variables is not None
                    for collection, tree in ancestor.variables.items():
                        for name in tree.keys() & {f"block_{index}" for index in range(phase)}:
                            kept = trained.variables[collection][name]
                            jax.tree.map(np.testing.assert_array_equal, kept, tree[name])
        assert cached[0].variables is not None
        blocks, ancestor = requests[0].network.blocks, Ancestor(requests[0], cached[0].variables)
    for executor in executors:
        executor.close()


def test_features_in_bfloat16_are_the_rounded_ones(recomputed: PhaseData, variables: dict[str, Any]) -> None:
    plan = dataclasses.replace(CHILD, recipe=dataclasses.replace(PLAIN, precision="bfloat16"))
    half = PrefixFeatures(IMAGES, build_evaluation).of("child", "parent", plan, variables, 1)
    for part, exact in ((half.train, recomputed.train), (half.validation, recomputed.validation)):
        assert part.inputs.dtype == jnp.bfloat16
        largest = float(np.abs(exact.inputs).max())
        np.testing.assert_allclose(np.float32(part.inputs), exact.inputs, rtol=0, atol=0.03 * largest)
    assert (np.float32(half.train.inputs) != recomputed.train.inputs).any()
