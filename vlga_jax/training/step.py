"""One step of training: a pure function of a state and a batch, to be jitted by the caller."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlga_jax.network import transfer
from vlga_jax.network.modules import ConvNet, are_mixed
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.whitening import WHITENING
from vlga_jax.shapes import Array, Float, PRNGKeyArray
from vlga_jax.training.augmentation import augment


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained; all that decides the outcome besides data, key and initial weights.

    Attributes:
      epochs: passes over the training images.
      batch_size: images a step; at most the number of training images is used.
      optimizer: adam (AdamW if `weight_decay` is above 0) or sgd (Nesterov momentum 0.9).
      learning_rate: the highest one.
      schedule: constant, or cosine down to 0.
      warmup_epochs: over which the learning rate rises linearly from 0.
      weight_decay: decoupled, for kernels only.
      label_smoothing: share of the target spread over all classes, in [0, 1).
      flip: whether training images are mirrored left to right with chance 1/2.
      crop_padding: pixels of reflected border that training images are cropped from; 0 is no cropping.
      precision: of activations and their gradients, float32 or bfloat16; weights, statistics and loss are float32. On a
        CPU that multiplies bfloat16, tuned layers round what convolutions multiply, and features, and nothing else;
        on another, bfloat16 is slower than float32.
      cutout: side of the square made grey in each training image, pixels; 0 is none.
      ema_decay: what a step leaves of the average over all steps' weights, which then is what counts; in [0, 1), 0 for
        no average. The first steps leave less, (1 + step) / (10 + step).
      clip_norm: gradients whose Euclidean norm, over all weights together, is larger are scaled down to it; 0 never.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str
    warmup_epochs: float
    weight_decay: float
    label_smoothing: float
    flip: bool
    crop_padding: int
    precision: str
    cutout: int = 0
    ema_decay: float = 0.0
    clip_norm: float = 0.0


PRECISIONS = ("auto", "float32", "bfloat16")
"""Of activations, as configurations say it; auto is bfloat16 where matrix units are made for it."""


def resolved_precision(name: str, layers: str) -> str:
    """Returns the precision that one of `PRECISIONS` means here.

    On a CPU auto is bfloat16 for tuned layers on a processor that multiplies it.
    """
    if name != "auto":
        return name
    fast = jax.default_backend() != "cpu" or are_mixed(layers)
    return "bfloat16" if fast else "float32"


class TrainState(NamedTuple):
    """What a step changes.

    Attributes:
      params, batch_stats, opt_state: trees.
      average: of params and batch_stats over the steps, by these names; empty where the recipe keeps none.
      step: int32 [], steps taken.
      loss_sum: float32 [], of the steps since it was last set to 0; not finite once any loss was not.
    """

    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any
    step: Array | np.ndarray
    loss_sum: Array | np.ndarray


class Batch(NamedTuple):
    """Examples of one step; arrays of NumPy or JAX, or shapes.

    Attributes:
      inputs: `[batch, height, width, channels]`, uint8 images or a frozen prefix's features in the recipe's precision.
      labels: int32 `[batch]`.
    """

    inputs: Any
    labels: Any


class Gradient(NamedTuple):
    """What a batch says of a network.

    Attributes:
      params: gradient of the mean loss, a tree like the network's.
      batch_stats: the running ones after the batch.
      logits: float32 `[batch, classes]`.
    """

    params: Any
    batch_stats: Any
    logits: Any


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns how many steps show every example at least once; the last batch is filled from the epoch's start."""
    return -(-num_examples // min(batch_size, num_examples))


def make_optimizer(recipe: Recipe, *, steps_per_epoch: int, num_frozen: int) -> optax.GradientTransformation:
    """Returns the recipe's optimizer, with zero updates for the leading `num_frozen` blocks."""
    total = recipe.epochs * steps_per_epoch
    warmup = round(min(recipe.warmup_epochs, recipe.epochs) * steps_per_epoch)
    rate: optax.Schedule | float = recipe.learning_rate
    if recipe.schedule == "cosine":
        start = 0.0 if warmup else recipe.learning_rate
        rate = optax.warmup_cosine_decay_schedule(start, recipe.learning_rate, warmup, max(total, warmup + 1))
    elif warmup:
        rate = optax.linear_schedule(0.0, recipe.learning_rate, warmup)

    def kernels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    moments = optax.scale_by_adam() if recipe.optimizer == "adam" else optax.trace(decay=0.9, nesterov=True)
    parts = [optax.clip_by_global_norm(recipe.clip_norm)] if recipe.clip_norm > 0 else []
    # One vector of all weights: a tenth less to compile, and as fast. What comes after, and `packing.learns_alike`,
    # rely on it that every weight learns alone.
    parts.append(optax.flatten(moments))
    if recipe.weight_decay > 0:
        parts.append(optax.add_decayed_weights(recipe.weight_decay, mask=kernels))
    parts.append(optax.scale_by_learning_rate(rate))
    return transfer.freeze(optax.chain(*parts), num_frozen)


def scale_images(inputs: Array) -> Float[Array, "batch height width channels"]:
    """Returns uint8 images as float32 in [0, 1], as the report code feeds them; features pass as they are."""
    if inputs.dtype == jnp.uint8:
        return inputs.astype(jnp.float32) / 255.0
    return inputs


def make_train_step(
    spec: NetworkSpec, recipe: Recipe, *, steps_per_epoch: int, num_frozen: int, layers: str = "tuned"
) -> Callable[[TrainState, Batch, PRNGKeyArray], TrainState]:
    """Returns the function from a state, a batch and a key to the state after one step.

    The key is the training's: it is folded with the state's step, so that one key serves all steps.

    Args:
      spec: the network that is trained; a suffix when the batch holds features.
      recipe: how.
      steps_per_epoch: for the learning rate's schedule.
      num_frozen: leading blocks that stay as they are; no gradient is computed for them.
      layers: tuned or plain.
    """
    gradient_of = make_gradient(spec, recipe, num_frozen=num_frozen, layers=layers)
    update = make_update(recipe, steps_per_epoch=steps_per_epoch, num_frozen=num_frozen)

    def train_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> TrainState:
        gradient = gradient_of(state.params, state.batch_stats, batch, state.step, key)
        return update(state, gradient, batch.labels)

    return train_step


def make_gradient(
    spec: NetworkSpec, recipe: Recipe, *, num_frozen: int, layers: str = "tuned"
) -> Callable[[Any, Any, Batch, Array | np.ndarray, PRNGKeyArray], Gradient]:
    """Returns the part of a step that depends on the network: from params, batch statistics, a batch, the step's place
    and the training's key to the gradient. Arguments are those of `make_train_step`.
    """
    model = ConvNet(spec, layers, recipe.precision)
    uses_dropout = any(block.dropout_rate > 0 for block in spec.blocks[num_frozen:])

    def gradient_of(
        params: Any, batch_stats: Any, batch: Batch, step: Array | np.ndarray, key: PRNGKeyArray
    ) -> Gradient:
        key_augment, key_dropout = jax.random.split(jax.random.fold_in(key, step))
        inputs = augment(
            key_augment, batch.inputs, flip=recipe.flip, crop_padding=recipe.crop_padding, cutout=recipe.cutout
        )

        def logits_of(params: Any) -> tuple[Any, Any]:
            return model.apply(
                {"params": transfer.stop_frozen_gradients(params, num_frozen), "batch_stats": batch_stats},
                scale_images(inputs),
                train=True,
                num_frozen=num_frozen,
                mutable=["batch_stats"],
                rngs={"dropout": key_dropout} if uses_dropout else None,
            )

        logits, backward, updated = jax.vjp(logits_of, params, has_aux=True)
        (gradient,) = backward(jax.grad(_mean_loss, argnums=1)(recipe, logits, batch.labels))
        return Gradient(gradient, updated.get("batch_stats", {}), logits)

    return gradient_of


def make_update(
    recipe: Recipe, *, steps_per_epoch: int, num_frozen: int
) -> Callable[[TrainState, Gradient, Array], TrainState]:
    """Returns the rest of a step: from a state, its gradient and the batch's labels to the state after it.

    Arguments are those of `make_train_step`.
    """
    optimizer = make_optimizer(recipe, steps_per_epoch=steps_per_epoch, num_frozen=num_frozen)

    def update(state: TrainState, gradient: Gradient, labels: Array) -> TrainState:
        with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
            updates, opt_state = optimizer.update(gradient.params, state.opt_state, state.params)
        params = transfer.keep_frozen(optax.apply_updates(state.params, updates), state.params, num_frozen)
        batch_stats = transfer.keep_frozen(gradient.batch_stats, state.batch_stats, num_frozen)
        average = state.average
        if recipe.ema_decay:
            step = jnp.float32(state.step)
            kept = jnp.minimum(recipe.ema_decay, (1.0 + step) / (10.0 + step))
            average = optax.incremental_update(as_variables(params, batch_stats), average, 1.0 - kept)
            if WHITENING in batch_stats:
                average["batch_stats"][WHITENING] = batch_stats[WHITENING]  # to the bit
        return TrainState(
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            average=average,
            step=state.step + 1,
            loss_sum=state.loss_sum + _mean_loss(recipe, gradient.logits, labels),
        )

    return update


def _mean_loss(recipe: Recipe, logits: Float[Array, "batch classes"], labels: Array) -> Float[Array, ""]:
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    if recipe.label_smoothing > 0:
        targets = optax.smooth_labels(targets, recipe.label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


def as_variables(params: Any, batch_stats: Any) -> transfer.Variables:
    """Returns both as a module's variables: without `batch_stats` where there is no batch norm."""
    return {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}


def learnt(state: TrainState) -> transfer.Variables:
    """Returns the variables that a training leaves: their average where one is kept."""
    return state.average or as_variables(state.params, state.batch_stats)


def initial_state(
    variables: transfer.Variables, optimizer: optax.GradientTransformation, *, averaged: bool = False
) -> TrainState:
    """Returns the state before the first step, on the host; `averaged` says whether an average is kept.

    Optimizer states start as zeros (moments and counts), so they are filled in without running, and compiling,
    `optimizer.init` for every network; one zero is broadcast, so that a network too large for memory can be measured.
    """
    shapes = jax.eval_shape(optimizer.init, variables["params"])
    return TrainState(
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes),
        average=jax.tree.map(lambda leaf: leaf, variables) if averaged else {},
        step=np.zeros((), np.int32),
        loss_sum=np.zeros((), np.float32),
    )
