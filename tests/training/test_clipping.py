"""Clipped gradients: what a deep network without batch norm, whose skips are not normalised either, needs to learn."""

import dataclasses

import jax
import pytest

from tests.recipes import PLAIN
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec
from vlga_jax.training.data import DataConfig, load_training_data
from vlga_jax.training.examples import Examples
from vlga_jax.training.failure import TrainingFailure
from vlga_jax.training.fit import EpochEnd, run_epochs
from vlga_jax.training.programs import Plan, build

BLOCK = BlockSpec(ConvSpec(32, 3, False), None, ConvSpec(32, 3, False), True, 0.0)
DEEP = NetworkSpec((8, 8, 1), 10, "relu", "average", (BLOCK,) * 8)
# As `experiments/cifar10.py` trains its winner, in short.
RECIPE = dataclasses.replace(
    PLAIN,
    epochs=4,
    batch_size=64,
    optimizer="sgd",
    learning_rate=0.2,
    schedule="cosine",
    warmup_epochs=1.0,
    weight_decay=5e-3,
    label_smoothing=0.1,
)


def trained(clip_norm: float) -> EpochEnd:
    """The end of a training on 640 digits, validated on 359 others."""
    config = DataConfig("digits", "", 999, 0, 0.36, 0, 0, "")
    data = load_training_data(config)
    train, validation = (
        Examples(data.train_images, data.train_labels),
        Examples(data.validation_images, data.validation_labels),
    )
    plan = Plan(DEEP, dataclasses.replace(RECIPE, clip_norm=clip_norm), 0, len(train), "uint8", False)
    state = plan.initial_state(initialise(jax.random.key(0), DEEP))
    (*_, end) = run_epochs(plan, build(plan), state, train, validation, jax.random.key(1))
    return end


def test_training_without_clipping_diverges_and_with_it_learns() -> None:
    with pytest.raises(TrainingFailure) as failure:
        trained(0.0)
    assert failure.value.reason in ("a loss of epoch 1 was not finite", "a loss of epoch 2 was not finite")
    end = trained(1.0)
    assert end.accuracy is not None and end.accuracy > 0.3, "chance is 0.1"
