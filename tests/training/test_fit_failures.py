"""Training runs that fail: what each failure is called, and that a programming error is none."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.fitting import (
    NETWORK,
    PIXEL,
    PLAN,
    TRAIN,
    pixel_plan,
    pixel_state,
    pixels,
    programs_of,
    start,
)
from vlga_jax.network.spec import BlockSpec, ConvSpec
from vlga_jax.training import memory
from vlga_jax.training.examples import Examples
from vlga_jax.training.failure import TrainingFailure, failures_of_the_network
from vlga_jax.training.fit import run_epochs
from vlga_jax.training.programs import Plan, Programs, build

KEY = jax.random.key(3)


@pytest.mark.parametrize("place", range(5))
def test_run_epochs_on_one_value_that_is_no_number_diverges(place: int) -> None:
    plan = pixel_plan(num_classes=2, num_train=5)
    values = np.ones(5)
    values[place] = np.nan
    with pytest.raises(TrainingFailure) as failure:
        next(
            run_epochs(
                plan, programs_of(plan), pixel_state(plan, [0, 1], [0, 0]), pixels(values, np.zeros(5)), None, KEY
            )
        )
    assert failure.value.status == "diverged"


def test_run_epochs_with_a_huge_learning_rate_diverges(plan: Plan) -> None:
    recipe = dataclasses.replace(plan.recipe, learning_rate=1e38, schedule="constant", warmup_epochs=0.0)
    plan = dataclasses.replace(plan, recipe=recipe)
    with pytest.raises(TrainingFailure) as failure:
        list(run_epochs(plan, programs_of(plan), start(plan), TRAIN, None, KEY))
    assert failure.value.status == "diverged"
    assert "\n" not in failure.value.reason


def test_run_epochs_past_its_deadline_is_out_of_time(
    plan: Plan, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    epochs = run_epochs(plan, programs, start(plan), TRAIN, None, KEY, deadline=101.0)
    assert next(epochs).epoch == 0
    clock[0] = 101.5
    with pytest.raises(TrainingFailure) as failure:
        next(epochs)
    assert failure.value.status == "out_of_time"


def test_run_epochs_without_deadline_never_is(plan: Plan, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 1e300)
    assert len(list(run_epochs(plan, programs, start(plan), TRAIN, None, KEY))) == 3


def test_build_of_a_monstrous_network_is_out_of_memory_before_anything_is_allocated() -> None:
    block = BlockSpec(ConvSpec(1 << 18, 9, True), None, ConvSpec(1 << 18, 9, True), False, 0.0)  # 22 TB of weights
    monster = dataclasses.replace(NETWORK, blocks=(block,))
    with pytest.raises(TrainingFailure) as failure:
        build(dataclasses.replace(PLAN, spec=monster))
    assert failure.value.status == "out_of_memory"


def test_build_with_activations_beyond_memory_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(PIXEL, input_shape=(256, 256, 1))  # a batch of 4: 1 MB of inputs, some bytes of weights
    plan = dataclasses.replace(pixel_plan(num_classes=3, num_train=4), spec=spec)
    monkeypatch.setattr(memory, "total_bytes", lambda: 1_000_000)
    with pytest.raises(TrainingFailure) as failure:
        build(plan)
    assert failure.value.status == "out_of_memory"


def test_out_of_memory_of_jax_and_of_the_host_become_failures() -> None:
    for allocate in (lambda: jnp.zeros(1 << 46).block_until_ready(), lambda: bytearray(1 << 60)):
        with pytest.raises(TrainingFailure) as failure, failures_of_the_network():
            allocate()
        assert failure.value.status == "out_of_memory"
        assert failure.value.reason


def test_a_convolution_without_an_algorithm_is_a_failure_of_its_network() -> None:
    # As XLA says it: TensorFlow 2.21 with cuDNN 9.3 of a convolution with a bias, github.com/calad0i/HGQ2/issues/14.
    words = "INTERNAL: Autotuner could not find any supported configs for HLO: %cudnn-conv-bias-activation.6 = ..."
    with pytest.raises(TrainingFailure) as failure, failures_of_the_network():
        raise jax.errors.JaxRuntimeError(words)
    assert (failure.value.status, failure.value.reason) == ("not_compiled", words)


@pytest.mark.parametrize("error", [ValueError("wrong"), jax.errors.JaxRuntimeError("INTERNAL: wrong")])
def test_any_other_error_passes(error: Exception) -> None:
    with pytest.raises(type(error), match="wrong"), failures_of_the_network():
        raise error


def test_run_epochs_lets_a_programming_error_pass(plan: Plan, programs: Programs) -> None:
    with pytest.raises(Exception, match="8") as failure:  # the program was compiled for 6x6 images
        wrong = Examples(np.zeros((20, 8, 8, 1), np.uint8), TRAIN.labels)
        next(run_epochs(plan, programs, start(plan), wrong, None, KEY))
    assert not isinstance(failure.value, TrainingFailure)
