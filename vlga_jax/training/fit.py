"""Training one network with its programs: run epochs, count right answers. Serves fitness and final training alike."""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from vlga_jax.keys import stream
from vlga_jax.shapes import Array, PRNGKeyArray
from vlga_jax.training.examples import Examples
from vlga_jax.training.failure import DIVERGED, OUT_OF_TIME, TrainingFailure, failures_of_the_network
from vlga_jax.training.programs import Plan, Programs, epoch_order
from vlga_jax.training.step import Batch, TrainState, learnt


@dataclasses.dataclass(frozen=True)
class EpochEnd:
    """What an epoch left: its place from 0, the state, the mean loss and, if asked for, the validation accuracy."""

    epoch: int
    state: TrainState
    loss: float
    accuracy: float | None


def epochs_as_programs(inputs: np.ndarray | Array) -> bool:
    """Returns whether an epoch over these inputs should be one program: off the CPU, if they are on the device."""
    return jax.default_backend() != "cpu" and isinstance(inputs, jax.Array)


def run_epochs(
    plan: Plan,
    programs: Programs,
    state: TrainState,
    train: Examples,
    validation: Examples | None,
    key: PRNGKeyArray,
    *,
    first_epoch: int = 0,
    last_epoch: int | None = None,
    deadline: float = math.inf,
) -> Iterator[EpochEnd]:
    """Yields after each epoch, evaluated on `validation` unless that is None.

    The next epoch may use the yielded state's buffers again: copy what is to be kept.

    Args:
      plan, programs: of the network.
      state: before `first_epoch`, on the host or on the device; it is copied.
      train: what to train on.
      validation: what to evaluate on.
      key: the training's root; epochs and steps are folded in.
      first_epoch: from 0; epochs before it are in `state`.
      last_epoch: the one before which to stop; None is the recipe's end.
      deadline: `time.perf_counter()` seconds after which training is given up.

    Raises:
      TrainingFailure: a loss or an answer was not finite, memory ran out, or the deadline passed.
    """
    key_order, key_step = stream(key, "order"), stream(key, "step")
    packing = plan.packing
    with failures_of_the_network():
        state = jax.tree.map(_copied_to_device, state if packing is None else packing.packed(state))
    for epoch in range(first_epoch, plan.recipe.epochs if last_epoch is None else last_epoch):
        order = epoch_order(stream(key_order, "epoch", epoch), len(train), plan.num_steps, plan.batch_size)
        state = state._replace(loss_sum=_copied_to_device(np.zeros((), np.float32)))
        with failures_of_the_network():
            if plan.whole_epochs:
                state = programs.train(state, Batch(train.inputs, train.labels), order, key_step)
            else:
                for rows in np.asarray(order):
                    state = programs.train(state, train.at(rows), key_step)
                    _require_time(state, deadline)
            loss = float(state.loss_sum) / plan.num_steps
            if not math.isfinite(loss):
                raise TrainingFailure(DIVERGED, f"a loss of epoch {epoch + 1} was not finite")
            reached = state if packing is None else packing.unpacked(state)
            accuracy = None if validation is None else count_correct(programs, reached, validation) / len(validation)
        _require_time(state, deadline)
        yield EpochEnd(epoch, reached, loss, accuracy)


def _copied_to_device(leaf: np.ndarray | Array) -> Array:
    """`jnp.asarray` would compile a program for each shape, and JAX may use NumPy's memory, where steps would write."""
    return jax.device_put(np.array(leaf))


def count_correct(programs: Programs, state: TrainState, examples: Examples) -> int:
    """Returns how many examples the network of `state` classifies rightly; of equal logits the first counts.

    Raises:
      TrainingFailure: weights that are finite, but large, gave logits that are not.
    """
    variables = learnt(state)
    params, batch_stats = jax.device_put((variables["params"], variables.get("batch_stats", {})))
    each = [programs.evaluate(params, batch_stats, batch).logits for _, batch in examples.batches()]
    logits = np.concatenate([np.asarray(some) for some in each])[: len(examples)]
    if not np.isfinite(logits).all():
        raise TrainingFailure(DIVERGED, "the network's answers are not finite")
    return int((logits.argmax(axis=1) == np.asarray(examples.labels)).sum())


def require_finite(variables: Any) -> None:
    """Raises `TrainingFailure` if weights on the host are not finite: a last step may overflow after a finite loss."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise TrainingFailure(DIVERGED, "the last step left weights that are not finite")


def _require_time(state: TrainState, deadline: float) -> None:
    if deadline == math.inf:
        return  # steps are dispatched ahead of the device; waiting for each is the price of a deadline
    jax.block_until_ready(state.loss_sum)
    if time.perf_counter() > deadline:
        raise TrainingFailure(OUT_OF_TIME, "training took longer than fitness.max_seconds")
