"""What a recipe may add to a step: an average of weights, whitened images, clipped gradients, rates of their own."""

import dataclasses
from typing import Any

import chex
import jax
import numpy as np
import pytest

from tests.training.stepping import RECIPE, SPEC, batch, jitted_step
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec
from vlga_jax.network.whitening import patch_statistics
from vlga_jax.training.examples import Examples
from vlga_jax.training.fit import run_epochs
from vlga_jax.training.programs import Plan, build
from vlga_jax.training.step import (
    as_variables,
    initial_state,
    learnt,
    make_optimizer,
)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_train_step_with_an_average_keeps_that_of_the_weights_and_statistics(batch_norm: bool) -> None:
    block = BlockSpec(ConvSpec(2, 3, batch_norm), None, None, False, 0.0)
    spec, recipe = dataclasses.replace(SPEC, blocks=(block,)), dataclasses.replace(RECIPE, ema_decay=0.15)
    optimizer = make_optimizer(recipe, steps_per_epoch=1, num_frozen=0)
    variables = initialise(jax.random.key(0), spec)
    state, plain = initial_state(variables, optimizer, averaged=True), initial_state(variables, optimizer)
    expected = variables
    for step, kept in enumerate((0.1, 0.15, 0.15)):  # (1 + 0) / 10, then 2 / 11 is over the decay
        state = jitted_step(spec, recipe)(state, batch(step), jax.random.key(1))
        plain = jitted_step(spec, dataclasses.replace(recipe, ema_decay=0.0))(plain, batch(step), jax.random.key(1))
        last = as_variables(plain.params, plain.batch_stats)
        assert learnt(plain) == last
        expected = jax.tree.map(lambda old, new, k=kept: k * old + (1 - k) * np.asarray(new), expected, last)
    chex.assert_trees_all_close(as_variables(state.params, state.batch_stats), last, rtol=1e-5)
    chex.assert_trees_all_close(learnt(state), expected, rtol=1e-4, atol=1e-6)
    assert ("batch_stats" in learnt(state)) == batch_norm


def test_train_step_of_a_network_that_whitens_keeps_the_very_bits_of_its_statistics() -> None:
    found = patch_statistics(batch().inputs)
    spec, recipe = dataclasses.replace(SPEC, whitening=True), dataclasses.replace(RECIPE, ema_decay=0.3)
    optimizer = make_optimizer(recipe, steps_per_epoch=1, num_frozen=0)
    state = initial_state(initialise(jax.random.key(0), spec, found), optimizer, averaged=True)
    for step in range(5):
        state = jitted_step(spec, recipe)(state, batch(step), jax.random.key(1))
    chex.assert_trees_all_equal(state.batch_stats["whitening"], found)
    chex.assert_trees_all_equal(learnt(state)["batch_stats"]["whitening"], found)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_train_step_with_a_clip_norm_scales_larger_gradients_down_to_it(share: float) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", weight_decay=0.0)
    variables = initialise(jax.random.key(0), SPEC)

    def moved(clip_norm: float) -> Any:
        clipped = dataclasses.replace(recipe, clip_norm=clip_norm)
        start = initial_state(variables, make_optimizer(clipped, steps_per_epoch=1, num_frozen=0))
        after = jitted_step(SPEC, clipped)(start, batch(0), jax.random.key(1))
        return jax.tree.map(lambda new, old: np.asarray(new) - old, after.params, variables["params"])

    whole = moved(0.0)
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(whole))) / (1.9 * recipe.learning_rate)
    expected = jax.tree.map(lambda leaf: min(share, 1.0) * leaf, whole)  # Nesterov's first step is 1.9 gradients
    chex.assert_trees_all_close(moved(share * float(norm)), expected, rtol=1e-3, atol=1e-6)


def test_an_epoch_of_a_network_that_whitens_as_one_program_agrees_with_its_steps() -> None:
    spec = dataclasses.replace(SPEC, whitening=True)
    recipe = dataclasses.replace(RECIPE, epochs=1, ema_decay=0.3)
    data = Examples(np.concatenate([batch(seed).inputs for seed in range(3)]), np.arange(24, dtype=np.int32) % 3)
    plan = Plan(spec, recipe, num_frozen=0, num_train=24, input_dtype="uint8", whole_epochs=False)
    variables = initialise(jax.random.key(0), spec, patch_statistics(data.inputs))
    ends = []
    for whole in (False, True):
        of_kind = dataclasses.replace(plan, whole_epochs=whole)
        train = data.on_device() if whole else data
        state = of_kind.initial_state(variables)
        (end,) = run_epochs(of_kind, build(of_kind, evaluates=False), state, train, None, jax.random.key(1))
        ends.append(end.state)
    chex.assert_trees_all_close(*ends, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(learnt(ends[1])["batch_stats"]["whitening"], variables["batch_stats"]["whitening"])
