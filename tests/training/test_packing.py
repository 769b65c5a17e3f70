"""Weights packed into a vector: the same training as with a step that is one program, which networks then share."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest

from tests.recipes import PLAIN
from tests.training.fitting import NETWORK, TRAIN, VALIDATION, programs_of, start
from tests.trees import assert_same_bits
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.training import memory, packing
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.fit import EpochEnd, run_epochs
from vlga_jax.training.packing import PackedStep, Packing, shared_update
from vlga_jax.training.programs import Plan, Programs, build
from vlga_jax.training.step import TrainState, make_update

PLAN = Plan(NETWORK, PLAIN, num_frozen=0, num_train=20, input_dtype="uint8", whole_epochs=False)
OTHER = dataclasses.replace(NETWORK, blocks=(BlockSpec(ConvSpec(5, 1, False), None, ConvSpec(2, 3, True), True, 0.0),))


def wide(num_channels: int) -> NetworkSpec:
    return dataclasses.replace(NETWORK, blocks=(BlockSpec(ConvSpec(num_channels, 9, True), None, None, False, 0.0),))


FULL = dataclasses.replace(wide(20), num_classes=116)


def trained(plan: Plan, programs: Programs, state: TrainState, **options: Any) -> list[EpochEnd]:
    ends = run_epochs(plan, programs, state, TRAIN, VALIDATION, jax.random.key(1), **options)
    return [dataclasses.replace(end, state=jax.tree.map(np.array, end.state)) for end in ends]


def with_recipe(**changes: Any) -> Plan:
    return dataclasses.replace(PLAN, recipe=dataclasses.replace(PLAIN, **changes))


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        dataclasses.replace(PLAN, spec=OTHER),
        with_recipe(optimizer="sgd", flip=True, crop_padding=1),
        with_recipe(schedule="cosine", warmup_epochs=1.0, label_smoothing=0.1),
        with_recipe(precision="bfloat16"),
        pytest.param(dataclasses.replace(PLAN, spec=FULL), id="as many weights as places"),
    ],
)
def test_training_packed_has_the_bits_of_steps_of_one_program(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = build(plan)
    assert isinstance(programs.train, PackedStep)
    packed = trained(plan, programs, start(plan), last_epoch=3)
    monkeypatch.setattr(Plan, "packing", None)
    whole = dataclasses.replace(plan)  # has not looked yet whether it packs
    programs = build(whole)
    assert not isinstance(programs.train, PackedStep)
    for one, other in zip(packed, trained(whole, programs, start(whole), last_epoch=3), strict=True):
        assert (one.loss, one.accuracy) == (other.loss, other.accuracy)
        assert_same_bits(one.state, other.state)


def test_training_packed_leaves_a_state_on_the_device_alone() -> None:
    on_device = jax.device_put(start(PLAN))
    (end,) = trained(PLAN, programs_of(PLAN), on_device, last_epoch=1)
    assert_same_bits(on_device, start(PLAN))
    assert_same_bits(end.state, trained(PLAN, programs_of(PLAN), start(PLAN), last_epoch=1)[0].state)


@pytest.mark.parametrize(
    "plan",
    [
        with_recipe(weight_decay=0.1),  # of kernels alone
        with_recipe(ema_decay=0.9),
        with_recipe(clip_norm=1.0),  # of all weights together
        dataclasses.replace(PLAN, num_frozen=1),
        dataclasses.replace(PLAN, whole_epochs=True),
        dataclasses.replace(PLAN, layers="plain"),
        dataclasses.replace(PLAN, spec=wide(763)),  # 65,621 weights
    ],
)
def test_what_does_not_learn_alike_or_is_large_is_not_packed(plan: Plan) -> None:
    assert plan.packing is None


def test_nothing_is_packed_off_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert dataclasses.replace(PLAN).packing is None


def test_networks_with_vectors_of_one_length_share_the_update() -> None:
    one, other, larger = (build(dataclasses.replace(PLAN, spec=spec)).train for spec in (NETWORK, OTHER, wide(99)))
    assert one.update is other.update
    assert larger.update is not one.update
    assert one.gradient is not other.gradient


UPDATE: dict[str, Any] = {"recipe": PLAIN, "steps_per_epoch": 3, "batch_size": 8, "num_classes": 3, "length": 4096}


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": dataclasses.replace(PLAIN, optimizer="sgd")},
        {"recipe": dataclasses.replace(PLAIN, learning_rate=0.02)},
        {"steps_per_epoch": 4},
        {"batch_size": 16},
        {"num_classes": 5},
        {"length": 16_384},
    ],
)
def test_what_an_update_depends_on_gives_another(changed: dict[str, Any]) -> None:
    assert shared_update(**UPDATE) is shared_update(**UPDATE)
    assert shared_update(**UPDATE) is not shared_update(**{**UPDATE, **changed})


def test_an_update_that_two_threads_ask_for_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both, compiled = threading.Barrier(2), []

    def slowly(*arguments: Any, **options: Any) -> Any:
        compiled.append(arguments)
        time.sleep(0.1)  # in which the other thread would come, too
        return make_update(*arguments, **options)

    def asked(_: int) -> Any:
        both.wait()
        return shared_update(**{**UPDATE, "num_classes": 7})

    monkeypatch.setattr(packing, "make_update", slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(asked, range(2))
    assert one is other
    assert len(compiled) == 1


def test_weights_that_do_not_learn_alike_have_no_shared_update() -> None:
    with pytest.raises(AssertionError):
        shared_update(**{**UPDATE, "recipe": dataclasses.replace(PLAIN, weight_decay=0.1)})


def test_build_counts_what_both_programs_of_a_step_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(PLAN, recipe=dataclasses.replace(PLAIN, batch_size=512), num_train=512)
    step = build(plan).train  # of a batch that takes more than evaluation does
    gradient, update = memory.program_bytes(step.gradient), memory.program_bytes(step.update)
    assert update > 4 * 4096 * 4  # weights, gradients and two moments of the vector's length, float32
    monkeypatch.setattr(memory, "total_bytes", lambda: gradient + update)
    build(plan)
    monkeypatch.setattr(memory, "total_bytes", lambda: gradient + update - 1)
    with pytest.raises(TrainingFailure, match="training") as failure:
        build(plan)
    assert failure.value.status == "out_of_memory"


def test_an_update_that_finds_no_memory_is_a_failure_and_the_next_training_goes_on() -> None:
    def update(*_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    programs = build(PLAN)
    broken = dataclasses.replace(programs, train=dataclasses.replace(programs.train, update=update))
    with pytest.raises(TrainingFailure) as failure:
        next(run_epochs(PLAN, broken, start(PLAN), TRAIN, None, jax.random.key(1)))
    assert failure.value.status == "out_of_memory"
    assert next(run_epochs(PLAN, programs, start(PLAN), TRAIN, None, jax.random.key(1))).epoch == 0


@pytest.mark.parametrize(
    ("num_channels", "length"), [(1, 4096), (47, 4096), (48, 16_384), (190, 16_384), (762, 65_536)]
)
def test_vectors_have_few_lengths(num_channels: int, length: int) -> None:
    found = Packing(wide(num_channels))
    # A kernel of 9x9 for one input channel, batch norm, and a head for three classes.
    assert found.num_weights == num_channels * (81 + 2 + 3) + 3
    assert found.length == length
    assert Packing(FULL).num_weights == Packing(FULL).length == 4096


def test_a_state_unpacked_is_the_one_that_was_packed() -> None:
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), start(PLAN))
    how = Packing(NETWORK)
    packed = how.packed(state)
    (vector,) = jax.tree.leaves(packed.params)
    assert vector.shape == (how.length,)
    assert not vector[how.num_weights :].any()
    assert_same_bits(how.unpacked(packed), state)
