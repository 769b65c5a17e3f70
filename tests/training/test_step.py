"""One step, against NumPy: the optimizers and their schedules, the loss, what is random and what is counted."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.stepping import RECIPE, SPEC, batch, jitted_step, start
from vlga_jax.network import onednn
from vlga_jax.network.initialise import initialise
from vlga_jax.network.modules import ConvNet
from vlga_jax.training.step import (
    Batch,
    Recipe,
    initial_state,
    make_optimizer,
    resolved_precision,
    scale_images,
    steps_per_epoch,
)


@pytest.mark.parametrize(("num_examples", "batch_size", "steps"), [(20, 8, 3), (16, 8, 2), (5, 8, 1), (1, 1, 1)])
def test_steps_per_epoch_by_hand(num_examples: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(num_examples, batch_size) == steps


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("num_frozen", [0, 1])
def test_initial_state_is_what_the_optimizer_starts_from(
    optimizer: str, schedule: str, weight_decay: float, num_frozen: int
) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, schedule=schedule, weight_decay=weight_decay)
    variables = initialise(jax.random.key(0), SPEC)
    made = make_optimizer(recipe, steps_per_epoch=3, num_frozen=num_frozen)
    state = initial_state(variables, made)
    expected = made.init(jax.tree.map(jnp.asarray, variables["params"]))
    chex.assert_trees_all_equal_structs(state.opt_state, expected)
    for own, other in zip(jax.tree.leaves(state.opt_state), jax.tree.leaves(expected), strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_array_equal(own, other, strict=True)
    assert (state.params, state.batch_stats) == (variables["params"], variables["batch_stats"])
    assert (int(state.step), float(state.loss_sum)) == (0, 0.0)


def reference_loss(params: Any, batch_stats: Any, data: Batch, smoothing: float) -> Any:
    logits, updated = ConvNet(SPEC).apply(
        {"params": params, "batch_stats": batch_stats},
        jnp.asarray(data.inputs, jnp.float32) / 255,
        train=True,
        mutable=["batch_stats"],
    )
    targets = (1 - smoothing) * jnp.eye(3)[data.labels] + smoothing / 3
    log_probs = logits - jnp.log(jnp.exp(logits).sum(axis=1, keepdims=True))
    return -(targets * log_probs).sum() / 8, updated["batch_stats"]


def reference_update(grads: list[np.ndarray], recipe: Recipe) -> np.ndarray:
    """The last of the steps that follow from these gradients of one leaf, learning rate and decay left out."""
    if recipe.optimizer == "sgd":  # Nesterov momentum 0.9
        trace = np.zeros_like(grads[0])
        for grad in grads:
            trace = grad + 0.9 * trace
        return grads[-1] + 0.9 * trace
    mean, square = np.zeros_like(grads[0]), np.zeros_like(grads[0])  # Kingma and Ba 2015, algorithm 1
    for grad in grads:
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
    return mean / (1 - 0.9 ** len(grads)) / (np.sqrt(square / (1 - 0.999 ** len(grads))) + 1e-8)


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "smoothing"), [("adam", 0.0, 0.0), ("adam", 2.0, 0.3), ("sgd", 2.0, 0.0)]
)
def test_train_step_of_each_optimizer_is_the_one_written_by_hand(
    optimizer: str, weight_decay: float, smoothing: float
) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, weight_decay=weight_decay, label_smoothing=smoothing)
    state, step = start(SPEC, recipe), jitted_step(SPEC, recipe)
    gradient = jax.jit(jax.value_and_grad(reference_loss, has_aux=True), static_argnums=3)
    seen: list[Any] = []
    for number in range(3):
        data = batch(number)
        (loss, batch_stats), grads = gradient(state.params, state.batch_stats, data, smoothing)
        seen.append(jax.tree.map(np.float64, grads))
        after = step(state._replace(loss_sum=np.zeros((), np.float32)), data, jax.random.key(1))
        np.testing.assert_allclose(after.loss_sum, loss, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.batch_stats, batch_stats
        )

        def expected(path: Any, param: Any, *grads: np.ndarray) -> np.ndarray:
            decay = weight_decay * param if path[-1].key == "kernel" else 0.0
            return np.float64(param) - 0.01 * (reference_update(list(grads), recipe) + decay)

        wanted = jax.tree_util.tree_map_with_path(expected, state.params, *seen)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after.params, wanted)
        assert int(after.step) == number + 1
        state = after


def rates(recipe: Recipe, num_steps: int) -> list[float]:
    """The learning rate of each step, 4 steps an epoch: how far Adam goes along a gradient that never changes."""
    optimizer = make_optimizer(recipe, steps_per_epoch=4, num_frozen=0)
    params = {"head": {"bias": jnp.zeros(())}}
    state, found = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
        for _ in range(num_steps):
            updates, state = update({"head": {"bias": jnp.ones(())}}, state, params)
            found.append(-float(updates["head"]["bias"]))
    return found


def test_make_optimizer_with_cosine_warms_up_linearly_and_ends_at_zero() -> None:
    recipe = dataclasses.replace(RECIPE, schedule="cosine", warmup_epochs=1.0, learning_rate=0.5)
    falling = [0.5 * (1 + np.cos(np.pi * step / 8)) / 2 for step in range(9)]
    np.testing.assert_allclose(rates(recipe, 13), [0, 0.125, 0.25, 0.375, *falling], rtol=1e-4, atol=1e-6)


def test_make_optimizer_with_cosine_and_no_warmup_starts_at_the_highest_rate() -> None:
    recipe = dataclasses.replace(RECIPE, schedule="cosine", learning_rate=0.5)
    expected = [0.5 * (1 + np.cos(np.pi * step / 12)) / 2 for step in range(13)]
    np.testing.assert_allclose(rates(recipe, 13), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("warmup_epochs", "expected"), [(0.0, [0.5] * 5), (0.5, [0, 0.25, 0.5, 0.5, 0.5]), (9.0, [0, 1 / 24, 2 / 24])]
)
def test_make_optimizer_with_a_constant_rate_warms_up_to_it(warmup_epochs: float, expected: list[float]) -> None:
    recipe = dataclasses.replace(RECIPE, warmup_epochs=warmup_epochs, learning_rate=0.5)
    np.testing.assert_allclose(rates(recipe, len(expected)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("warmup_epochs", [3.0, 9.0, 1e308])
def test_make_optimizer_with_warmup_as_long_as_the_training_still_has_finite_rates(warmup_epochs: float) -> None:
    recipe = dataclasses.replace(RECIPE, schedule="cosine", warmup_epochs=warmup_epochs, learning_rate=0.5)
    np.testing.assert_allclose(rates(recipe, 12), np.arange(12) * 0.5 / 12, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def random_step() -> Any:
    """A step with dropout and augmentation, as a function of key and step; returns its loss."""
    spec = dataclasses.replace(SPEC, blocks=(dataclasses.replace(SPEC.blocks[0], dropout_rate=0.5),))
    step, state = jitted_step(spec, RECIPE), start(spec, RECIPE)
    return lambda key, number: float(step(state._replace(step=np.array(number, np.int32)), batch(), key).loss_sum)


def test_train_step_drops_other_units_at_every_step_and_key(random_step: Any) -> None:
    losses = {random_step(jax.random.key(seed), number) for seed in (0, 1) for number in range(4)}
    assert len(losses) == 8
    assert random_step(jax.random.key(0), 3) == random_step(jax.random.key(0), 3)


def test_train_step_augments_anew_at_every_step() -> None:
    recipe = dataclasses.replace(RECIPE, flip=True, crop_padding=1)
    step, state = jitted_step(SPEC, recipe), start(SPEC, recipe)
    losses = {
        float(step(state._replace(step=np.array(n, np.int32)), batch(), jax.random.key(0)).loss_sum) for n in range(4)
    }
    assert len(losses) == 4


def test_train_step_with_cutout_sees_grey() -> None:
    covered, plain = jitted_step(SPEC, dataclasses.replace(RECIPE, cutout=9)), jitted_step(SPEC, RECIPE)
    data, key = batch(), jax.random.key(0)  # of 4x4 pixels: a square of 9 covers all from any centre
    grey = data._replace(inputs=np.full_like(data.inputs, 128))
    one, other = covered(start(SPEC, RECIPE), data, key), plain(start(SPEC, RECIPE), grey, key)
    chex.assert_trees_all_close(one.params, other.params, rtol=1e-6)
    assert float(one.loss_sum) == pytest.approx(float(other.loss_sum))


def test_train_step_on_values_that_are_not_finite_says_so_for_good() -> None:
    step, state = jitted_step(SPEC, RECIPE), start(SPEC, RECIPE)
    inputs = batch().inputs.astype(np.float32)
    inputs[0, 0, 0, 0] = np.inf
    after = step(state, Batch(inputs, batch().labels), jax.random.key(0))
    assert not np.isfinite(after.loss_sum)
    healthy = state._replace(loss_sum=after.loss_sum)
    assert not np.isfinite(
        step(healthy, Batch(batch().inputs.astype(np.float32), batch().labels), jax.random.key(0)).loss_sum
    )


def test_scale_images_divides_bytes_and_passes_features() -> None:
    np.testing.assert_allclose(scale_images(jnp.array([[[[0, 51, 255]]]], jnp.uint8)), [[[[0, 0.2, 1]]]], rtol=1e-6)
    features = jnp.array([[[[-3.0, 300.0]]]])
    assert scale_images(features) is features


def test_train_step_in_bfloat16_keeps_float32_state_near_that_of_float32() -> None:
    states, beginning = {}, start(SPEC, RECIPE)
    for precision in ("float32", "bfloat16"):
        recipe = dataclasses.replace(RECIPE, optimizer="sgd", precision=precision)
        state, step = start(SPEC, recipe), jitted_step(SPEC, recipe)
        for number in range(3):
            state = step(state, batch(number), jax.random.key(0))
        states[precision] = state
    exact, half = states["float32"], states["bfloat16"]
    assert {leaf.dtype for leaf in jax.tree.leaves((half.params, half.batch_stats, half.loss_sum))} == {np.dtype("f4")}
    moved, exactly = (
        jax.tree.map(lambda after, before: np.asarray(after - before), state.params, beginning.params)
        for state in (half, exact)
    )
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(exactly))
    chex.assert_trees_all_close(moved, exactly, rtol=0, atol=0.05 * largest)
    chex.assert_trees_all_close(half.batch_stats, exact.batch_stats, rtol=0.03, atol=3e-3)
    assert float(half.loss_sum) == pytest.approx(float(exact.loss_sum), rel=0.02)
    assert float(half.loss_sum) != float(exact.loss_sum), "precision is heeded"


@pytest.mark.parametrize(
    ("name", "backend", "made_for_it", "layers", "precision"),
    [
        *(("auto", "cpu", False, "tuned", "float32"), ("auto", "gpu", False, "plain", "bfloat16")),
        *(("auto", "cpu", True, "tuned", "bfloat16"), ("auto", "cpu", True, "plain", "float32")),
        *(("float32", "gpu", False, "tuned", "float32"), ("bfloat16", "cpu", False, "plain", "bfloat16")),
        ("float32", "cpu", True, "tuned", "float32"),
    ],
)
def test_resolved_precision_of_each_backend_and_processor(
    name: str, backend: str, made_for_it: bool, layers: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(onednn, "computes_bfloat16", lambda: made_for_it)
    assert resolved_precision(name, layers) == precision
