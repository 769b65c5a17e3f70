"""Training runs: what every epoch shows, and what it repeats bit for bit."""

import dataclasses
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.fitting import (
    NETWORK,
    PLAN,
    RNG,
    STILL,
    TRAIN,
    VALIDATION,
    pixel_plan,
    pixel_state,
    pixels,
    programs_of,
    start,
)
from tests.trees import assert_same_bits
from vlga_jax.network.initialise import initialise
from vlga_jax.training.examples import Examples
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.fit import count_correct, run_epochs
from vlga_jax.training.programs import Plan, Programs
from vlga_jax.training.step import TrainState


def on_host(state: TrainState) -> TrainState:
    return jax.tree.map(np.array, state)


@pytest.fixture(scope="module")
def undisturbed(plan: Plan, programs: Programs) -> list[TrainState]:
    """The state after each epoch of the training that the tests below repeat in other ways."""
    return [on_host(end.state) for end in run_epochs(plan, programs, start(plan), TRAIN, None, jax.random.key(1))]


@pytest.mark.parametrize("whole_epochs", [False, True])
def test_run_epochs_shows_every_example_each_epoch_and_fills_the_last_batch_from_its_start(whole_epochs: bool) -> None:
    plan = pixel_plan(num_classes=2, num_train=5, whole_epochs=whole_epochs)
    train = pixels([20 * 10.0**place for place in range(5)], np.zeros(5))  # example k has loss 20 * 10**k
    if whole_epochs:
        train = train.on_device()
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


def test_count_correct_of_finite_weights_whose_answers_are_not_is_a_failure() -> None:
    plan = pixel_plan(num_classes=2, num_train=5)
    state = pixel_state(plan, [3e38, 0.0], [0.0, 0.0])
    with pytest.raises(TrainingFailure, match="diverged: the network's answers are not finite"):
        count_correct(programs_of(plan), state, pixels([1.0, 2.0, 3.0], np.array([0, 0, 1])))
    assert count_correct(programs_of(plan), state, pixels([1.0, 0.5, 0.1], np.array([0, 0, 1]))) == 2


def test_run_epochs_on_the_device_in_one_program_agrees_with_steps_driven_from_the_host(
    plan: Plan, undisturbed: list[TrainState]
) -> None:
    plan = dataclasses.replace(plan, whole_epochs=True)
    train = TRAIN.on_device()
    ends = run_epochs(plan, programs_of(plan), start(plan), train, None, jax.random.key(1))
    for end, expected in zip(ends, undisturbed, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), end.state, expected)


def test_run_epochs_again_gives_the_same_bits(plan: Plan, programs: Programs, undisturbed: list[TrainState]) -> None:
    again = [on_host(end.state) for end in run_epochs(plan, programs, start(plan), TRAIN, None, jax.random.key(1))]
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
    done: int, plan: Plan, programs: Programs, undisturbed: list[TrainState]
) -> None:
    state = undisturbed[done - 1]
    ends = list(run_epochs(plan, programs, state, TRAIN, None, jax.random.key(1), first_epoch=done))
    assert [end.epoch for end in ends] == list(range(done, 3))
    assert_same_bits(on_host(ends[-1].state), undisturbed[-1])


def test_run_epochs_leaves_the_initial_variables_alone(plan: Plan, programs: Programs) -> None:
    variables = initialise(jax.random.key(0), NETWORK)
    before = jax.tree.map(np.array, variables)
    for _ in run_epochs(plan, programs, plan.initial_state(variables), TRAIN, None, jax.random.key(1)):
        assert_same_bits(variables, before)


def test_run_epochs_tells_the_accuracy_if_there_is_a_validation_set(
    plan: Plan, programs: Programs, undisturbed: list[TrainState]
) -> None:
    ends = run_epochs(plan, programs, start(plan), TRAIN, VALIDATION, jax.random.key(1))
    for end, state in zip(ends, undisturbed, strict=True):
        assert_same_bits(end.state, state)
        assert end.accuracy == count_correct(programs, jax.tree.map(jnp.asarray, state), VALIDATION) / 7
        assert math.isfinite(end.loss)
    (first, *_) = run_epochs(plan, programs, start(plan), TRAIN, None, jax.random.key(1))
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
