"""What tests of training runs share: plans for small networks, examples, and programs that are built once."""

import dataclasses
import functools

import jax
import numpy as np

from tests.recipes import PLAIN
from vlga_jax.network.initialise import initialise
from vlga_jax.network.spec import BlockSpec, ConvSpec, NetworkSpec, PoolSpec
from vlga_jax.training.examples import Examples
from vlga_jax.training.programs import Plan, build
from vlga_jax.training.step import TrainState

RECIPE = dataclasses.replace(
    PLAIN, schedule="cosine", warmup_epochs=1.0, weight_decay=0.1, label_smoothing=0.1, flip=True, crop_padding=1
)
BLOCK = BlockSpec(ConvSpec(3, 3, True), PoolSpec("max", 2), None, False, 0.25)
NETWORK = NetworkSpec((6, 6, 1), 3, "relu", "average", (BLOCK,))  # everything random and every kind of state
PLAN = Plan(NETWORK, RECIPE, num_frozen=0, num_train=20, input_dtype="uint8", whole_epochs=False)
PACKED = dataclasses.replace(PLAN, recipe=dataclasses.replace(RECIPE, weight_decay=0.0))
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


def start(plan: Plan = PLAN) -> TrainState:
    return plan.initial_state(initialise(jax.random.key(0), plan.spec))


programs_of = functools.cache(build)  # equal plans have equal programs
