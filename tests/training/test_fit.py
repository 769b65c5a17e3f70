"""Training runs: what every epoch shows, what it repeats bit for bit, and how it fails."""

import dataclasses
import functools
import math
import time
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training import memory
from vlga_jax.training.fit import (
    Examples,
    Plan,
    Programs,
    TrainingFailure,
    build,
    count_correct,
    out_of_memory_is_failure,
    run_epochs,
)
from vlga_jax.training.step import Recipe, TrainState

RECIPE = Recipe(
    epochs=3,
    batch_size=8,
    optimizer="adam",
    learning_rate=0.01,
    schedule="cosine",
    warmup_epochs=1.0,
    weight_decay=0.1,
    label_smoothing=0.1,
    flip=True,
    crop_padding=1,
    precision="float32",
)
BLOCK = BlockSpec(ConvSpec(3, 3, True), PoolSpec("max", 2), None, False, 0.25)
NETWORK = NetworkSpec((6, 6, 1), 3, "relu", "average", (BLOCK,))  # everything random and every kind of state
PLAN = Plan(NETWORK, RECIPE, num_frozen=0, num_train=20, input_dtype="uint8", whole_epochs=False)
RNG = np.random.default_rng(0)
TRAIN = Examples(RNG.integers(0, 256, (20, 6, 6, 1)).astype(np.uint8), RNG.integers(0, 3, 20).astype(np.int32))
VALIDATION = Examples(RNG.integers(0, 256, (7, 6, 6, 1)).astype(np.uint8), RNG.integers(0, 3, 7).astype(np.int32))

# relu(x), then logits (1, x, 2x - 4) of a single value: class 0 below 1, 1 up to 4, 2 above. Its loss for class 0 of
# the two-class network with logits (0, x) is x, for large x.
PIXEL = NetworkSpec((1, 1, 1), 3, "relu", "average", (BlockSpec(ConvSpec(1, 1, False), None, None, False, 0.0),))
STILL = dataclasses.replace(
    RECIPE,
    epochs=6,
    batch_size=4,
    optimizer="sgd",
    learning_rate=1e-30,
    schedule="constant",
    warmup_epochs=0.0,
    weight_decay=0.0,
    label_smoothing=0.0,
    flip=False,
    crop_padding=0,
)


def pixel_plan(num_classes: int, num_train: int, *, whole_epochs: bool = False) -> Plan:
    spec = dataclasses.replace(PIXEL, num_classes=num_classes)
    return Plan(spec, STILL, num_frozen=0, num_train=num_train, input_dtype="float32", whole_epochs=whole_epochs)


def pixel_state(plan: Plan, kernel: list[float], bias: list[float]) -> TrainState:
    """The state of a single-pixel network whose head has this kernel and bias."""
    conv = {"kernel": np.ones((1, 1, 1, 1), np.float32), "bias": np.zeros(1, np.float32)}
    head = {"kernel": np.array([kernel], np.float32), "bias": np.array(bias, np.float32)}
    return plan.initial_state({"params": {"block_0": {"a": {"conv": conv}}, "head": head}})


def pixels(values: list[float] | np.ndarray, labels: np.ndarray) -> Examples:
    return Examples(np.array(values, np.float32).reshape(-1, 1, 1, 1), labels.astype(np.int32))


def start(seed: int = 0) -> TrainState:
    return PLAN.initial_state(initialise(jax.random.key(seed), NETWORK))


def on_host(state: TrainState) -> TrainState:
    return jax.tree.map(np.array, state)


def assert_same_bits(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.array(a), np.array(b), strict=True), one, other)


programs_of = functools.cache(build)  # equal plans have equal programs


@pytest.fixture(scope="module")
def programs() -> Programs:
    return programs_of(PLAN)


@pytest.fixture(scope="module")
def undisturbed(programs: Programs) -> list[TrainState]:
    """The state after each epoch of the training that the tests below repeat in other ways."""
    return [on_host(end.state) for end in run_epochs(PLAN, programs, start(), TRAIN, None, jax.random.key(1))]


@pytest.mark.parametrize("whole_epochs", [False, True])
def test_run_epochs_shows_every_example_each_epoch_and_fills_the_last_batch_from_its_start(whole_epochs: bool) -> None:
    plan = pixel_plan(num_classes=2, num_train=5, whole_epochs=whole_epochs)
    train = pixels([20 * 10.0**place for place in range(5)], np.zeros(5))  # example k has loss 20 * 10**k
    if whole_epochs:
        train = Examples(jnp.asarray(train.inputs), jnp.asarray(train.labels))
    state = pixel_state(plan, [0.0, 1.0], [0.0, 0.0])
    patterns = []
    for end in run_epochs(plan, programs_of(plan), state, train, None, jax.random.key(2)):
        total = end.loss * 2 * 4 / 20  # two steps of four; digit k counts how often example k was shown
        patterns.append(f"{round(total):05d}")
        assert Counter(patterns[-1]) == {"1": 2, "2": 3}, "five examples in eight places: three come twice"
    assert len(set(patterns)) > 1  # the order differs between epochs
    assert len(patterns) == 6


def test_count_correct_counts_those_of_the_average_where_one_is_kept() -> None:
    plan = pixel_plan(num_classes=2, num_train=5)
    plan = dataclasses.replace(plan, recipe=dataclasses.replace(STILL, ema_decay=0.5))
    state, other = (pixel_state(plan, [0.0, 0.0], bias) for bias in ([1.0, 0.0], [0.0, 1.0]))
    examples = pixels([1.0, 2.0, 3.0], np.array([0, 0, 1]))
    programs = programs_of(plan)
    assert count_correct(programs, state, examples) == 2  # says 0, and its average, which starts as it is, too
    assert count_correct(programs, state._replace(average=other.average), examples) == 1
    assert count_correct(programs, state._replace(params=other.params), examples) == 2


def test_run_epochs_on_the_device_in_one_program_agrees_with_steps_driven_from_the_host(
    undisturbed: list[TrainState],
) -> None:
    plan = dataclasses.replace(PLAN, whole_epochs=True)
    train = Examples(jnp.asarray(TRAIN.inputs), jnp.asarray(TRAIN.labels))
    ends = run_epochs(plan, programs_of(plan), start(), train, None, jax.random.key(1))
    for end, expected in zip(ends, undisturbed, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), end.state, expected)


def test_run_epochs_on_device_arrays_equals_host_arrays(programs: Programs, undisturbed: list[TrainState]) -> None:
    train = Examples(jnp.asarray(TRAIN.inputs), jnp.asarray(TRAIN.labels))
    for end, expected in zip(
        run_epochs(PLAN, programs, start(), train, None, jax.random.key(1)), undisturbed, strict=True
    ):
        assert_same_bits(end.state, expected)


def test_run_epochs_again_gives_the_same_bits(programs: Programs, undisturbed: list[TrainState]) -> None:
    again = [on_host(end.state) for end in run_epochs(PLAN, programs, start(), TRAIN, None, jax.random.key(1))]
    assert_same_bits(again, undisturbed)
    assert int(again[-1].step) == 9


def test_run_epochs_with_another_key_shows_the_examples_in_another_order() -> None:
    plan, train = pixel_plan(num_classes=2, num_train=5), pixels([20 * 10.0**place for place in range(5)], np.zeros(5))
    losses = [
        [end.loss for end in run_epochs(plan, programs_of(plan), pixel_state(plan, [0, 1], [0, 0]), train, None, key)]
        for key in map(jax.random.key, (1, 2))
    ]
    assert losses[0] != losses[1]


def test_run_epochs_with_another_key_drops_and_augments_otherwise() -> None:
    plan = dataclasses.replace(PLAN, num_train=1)  # a single image: its order is always the same
    image = Examples(TRAIN.inputs[:1], TRAIN.labels[:1])
    losses = [
        [end.loss for end in run_epochs(plan, programs_of(plan), start(), image, None, key)]
        for key in map(jax.random.key, (1, 2))
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("done", [1, 2])
def test_run_epochs_from_a_later_epoch_continues_bit_for_bit(
    done: int, programs: Programs, undisturbed: list[TrainState]
) -> None:
    state = undisturbed[done - 1]
    ends = list(run_epochs(PLAN, programs, state, TRAIN, None, jax.random.key(1), first_epoch=done))
    assert [end.epoch for end in ends] == list(range(done, 3))
    assert_same_bits(on_host(ends[-1].state), undisturbed[-1])


def test_run_epochs_leaves_the_initial_variables_alone(programs: Programs) -> None:
    variables = initialise(jax.random.key(0), NETWORK)
    before = jax.tree.map(np.array, variables)
    for _ in run_epochs(PLAN, programs, PLAN.initial_state(variables), TRAIN, None, jax.random.key(1)):
        assert_same_bits(variables, before)


def test_run_epochs_tells_the_accuracy_if_there_is_a_validation_set(
    programs: Programs, undisturbed: list[TrainState]
) -> None:
    ends = run_epochs(PLAN, programs, start(), TRAIN, VALIDATION, jax.random.key(1))
    for end, state in zip(ends, undisturbed, strict=True):
        assert_same_bits(end.state, state)
        assert end.accuracy == count_correct(programs, jax.tree.map(jnp.asarray, state), VALIDATION) / 7
        assert math.isfinite(end.loss)
    (first, *_) = run_epochs(PLAN, programs, start(), TRAIN, None, jax.random.key(1))
    assert first.accuracy is None


def test_plan_with_fewer_examples_than_a_batch_takes_them_all_in_one_step() -> None:
    plan = dataclasses.replace(PLAN, num_train=5)
    assert (plan.batch_size, plan.num_steps) == (5, 1)
    assert (PLAN.batch_size, PLAN.num_steps) == (8, 3)


def test_count_correct_of_any_number_of_examples_is_numpys() -> None:
    plan = pixel_plan(num_classes=3, num_train=4)
    compiled = programs_of(plan)
    state = jax.tree.map(jnp.asarray, pixel_state(plan, [0.0, 1.0, 2.0], [1.0, 0.0, -4.0]))
    for size in (1, 255, 256, 257, 700):
        values = RNG.uniform(0.0, 6.0, size)
        predicted = np.stack([np.ones(size), values, 2 * values - 4], axis=1).argmax(axis=1)
        labels = np.where(RNG.uniform(size=size) < 0.5, predicted, RNG.integers(0, 3, size))
        assert count_correct(compiled, state, pixels(values, labels)) == (predicted == labels).sum()
    zeros = pixels(np.zeros(700), np.zeros(700))  # filling a batch up counts nothing twice
    assert count_correct(compiled, state, zeros) == 700


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


KEY = jax.random.key(3)


def test_run_epochs_with_a_huge_learning_rate_diverges() -> None:
    recipe = dataclasses.replace(STILL, learning_rate=1e30, weight_decay=1.0)
    plan = dataclasses.replace(pixel_plan(num_classes=2, num_train=5), recipe=recipe)
    state, train = pixel_state(plan, [0, 1], [0, 0]), pixels(np.ones(5), np.arange(5) % 2)
    with pytest.raises(TrainingFailure) as failure:
        list(run_epochs(plan, programs_of(plan), state, train, None, KEY))
    assert failure.value.status == "diverged"
    assert "\n" not in failure.value.reason


def test_run_epochs_past_its_deadline_is_out_of_time(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    epochs = run_epochs(PLAN, programs, start(), TRAIN, None, KEY, deadline=101.0)
    assert next(epochs).epoch == 0
    clock[0] = 101.5
    with pytest.raises(TrainingFailure) as failure:
        next(epochs)
    assert failure.value.status == "out_of_time"


def test_run_epochs_without_deadline_never_is(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 1e300)
    assert len(list(run_epochs(PLAN, programs, start(), TRAIN, None, KEY))) == 3


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
        with pytest.raises(TrainingFailure) as failure, out_of_memory_is_failure():
            allocate()
        assert failure.value.status == "out_of_memory"
        assert failure.value.reason


@pytest.mark.parametrize("error", [ValueError("wrong"), jax.errors.JaxRuntimeError("INTERNAL: wrong")])
def test_any_other_error_passes(error: Exception) -> None:
    with pytest.raises(type(error), match="wrong"), out_of_memory_is_failure():
        raise error


def test_run_epochs_lets_a_programming_error_pass(programs: Programs) -> None:
    with pytest.raises(Exception, match="8") as failure:  # the program was compiled for 6x6 images
        wrong = Examples(np.zeros((20, 8, 8, 1), np.uint8), TRAIN.labels)
        next(run_epochs(PLAN, programs, start(), wrong, None, KEY))
    assert not isinstance(failure.value, TrainingFailure)
