"""Weights packed into a vector: the same training as with a step that is one program, which networks then share."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from tests.recipes import PLAIN
from tests.training.fitting import NETWORK, TRAIN, VALIDATION
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.training.fit import EpochEnd, run_epochs
from vlga_jax.training.packing import PackedStep, Packing
from vlga_jax.training.programs import Plan, build
from vlga_jax.training.step import TrainState

PLAN = Plan(NETWORK, PLAIN, num_frozen=0, num_train=20, input_dtype="uint8", whole_epochs=False)
OTHER = dataclasses.replace(NETWORK, blocks=(BlockSpec(ConvSpec(5, 1, False), None, ConvSpec(2, 3, True), True, 0.0),))


def start(plan: Plan) -> TrainState:
    return plan.initial_state(initialise(jax.random.key(0), plan.spec))


def trained(plan: Plan, state: TrainState, **options: Any) -> list[EpochEnd]:
    ends = run_epochs(plan, build(plan), state, TRAIN, VALIDATION, jax.random.key(1), **options)
    return [dataclasses.replace(end, state=jax.tree.map(np.array, end.state)) for end in ends]


def with_recipe(**changes: Any) -> Plan:
    return dataclasses.replace(PLAN, recipe=dataclasses.replace(PLAIN, **changes))


def wide(num_channels: int) -> NetworkSpec:
    return dataclasses.replace(NETWORK, blocks=(BlockSpec(ConvSpec(num_channels, 9, True), None, None, False, 0.0),))


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        dataclasses.replace(PLAN, spec=OTHER),
        with_recipe(optimizer="sgd", flip=True, crop_padding=1),
        with_recipe(schedule="cosine", warmup_epochs=1.0, label_smoothing=0.1),
    ],
)
def test_training_packed_is_training_by_steps_of_one_program(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(build(plan).train, PackedStep)
    packed = trained(plan, start(plan))
    monkeypatch.setattr(Plan, "packing", None)
    whole = dataclasses.replace(plan)  # has not looked yet whether it packs
    assert not isinstance(build(whole).train, PackedStep)
    for one, other in zip(packed, trained(whole, start(whole)), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.accuracy == other.accuracy
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one.state, other.state)


def test_training_packed_continues_from_a_later_epoch_bit_for_bit() -> None:
    whole = trained(PLAN, start(PLAN))
    first = trained(PLAN, start(PLAN), last_epoch=1)
    rest = trained(PLAN, first[0].state, first_epoch=1)
    assert [end.epoch for end in rest] == [1, 2]
    for one, other in zip([*first, *rest], whole, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), one.state, other.state)


@pytest.mark.parametrize(
    "plan",
    [
        with_recipe(weight_decay=0.1),  # of kernels alone
        with_recipe(ema_decay=0.9),
        dataclasses.replace(PLAN, num_frozen=1),
        dataclasses.replace(PLAN, whole_epochs=True),
        dataclasses.replace(PLAN, layers="plain"),
    ],
)
def test_what_does_not_learn_alike_is_not_packed(plan: Plan) -> None:
    assert plan.packing is None


def test_nothing_is_packed_off_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert dataclasses.replace(PLAN).packing is None


def test_networks_with_vectors_of_one_length_share_the_update() -> None:
    one, other, larger = (build(dataclasses.replace(PLAN, spec=spec)).train for spec in (NETWORK, OTHER, wide(99)))
    assert one.update is other.update
    assert larger.update is not one.update
    assert one.gradient is not other.gradient


@pytest.mark.parametrize(("num_channels", "length"), [(1, 4096), (47, 4096), (48, 16_384), (800, 262_144)])
def test_vectors_have_few_lengths(num_channels: int, length: int) -> None:
    packing = Packing(wide(num_channels))
    # A kernel of 9x9 for one input channel, batch norm, and a head for three classes.
    assert packing.num_weights == num_channels * (81 + 2 + 3) + 3
    assert packing.length == length


def test_a_state_unpacked_is_the_one_that_was_packed() -> None:
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), start(PLAN))
    packing = Packing(NETWORK)
    packed = packing.packed(state)
    (vector,) = jax.tree.leaves(packed.params)
    assert vector.shape == (packing.length,)
    assert not vector[packing.num_weights :].any()
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), packing.unpacked(packed), state)
