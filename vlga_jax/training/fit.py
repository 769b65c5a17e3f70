"""Training one network: compile, run epochs, count right answers. Serves fitness and final training alike.

A `Plan` is all that a program depends on, so equal plans share one. On a CPU the steps are driven from Python, because
XLA runs convolutions inside a loop 4 to 100 times slower there; elsewhere an epoch is one program (`jax.lax.scan`).
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.keys import stream
from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec, count_flops
from vlga_jax.network.transfer import Variables
from vlga_jax.shapes import Array, PRNGKeyArray
from vlga_jax.training import compiler, memory
from vlga_jax.training.step import (
    EVAL_BATCH_SIZE,
    Batch,
    Recipe,
    TrainState,
    initial_state,
    learnt,
    make_eval_step,
    make_optimizer,
    make_train_step,
    padded_batches,
    steps_per_epoch,
)


class TrainingFailure(Exception):
    """A network that cannot be trained as asked: `status` is diverged, out_of_memory or out_of_time."""

    def __init__(self, status: str, reason: str):
        self.status, self.reason = status, reason
        super().__init__(f"{status}: {reason}")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that the programs of a training depend on.

    Attributes:
      spec: the network that is trained: a suffix where its inputs are features.
      recipe: how.
      num_frozen: its leading blocks that stay as they are.
      num_train: training examples.
      input_dtype: of the inputs, uint8 (images) or the recipe's precision (features).
      whole_epochs: whether an epoch is one program.
      layers: tuned or plain, as in `vlga_jax.network.modules`.
    """

    spec: NetworkSpec
    recipe: Recipe
    num_frozen: int
    num_train: int
    input_dtype: str
    whole_epochs: bool
    layers: str = "tuned"

    @property
    def batch_size(self) -> int:
        return min(self.recipe.batch_size, self.num_train)

    @property
    def num_steps(self) -> int:
        return steps_per_epoch(self.num_train, self.recipe.batch_size)

    @property
    def flops(self) -> float:
        """Floating-point operations of the whole training, at most; a backward pass counts twice a forward pass.

        Frozen blocks, which have none, count as the others do, and so do epochs that early stopping leaves out.
        """
        return 3.0 * count_flops(self.spec) * self.num_train * self.recipe.epochs

    def initial_state(self, variables: Variables) -> TrainState:
        """Returns the state before the first step, from the network's variables, on the host."""
        optimizer = make_optimizer(self.recipe, steps_per_epoch=self.num_steps, num_frozen=self.num_frozen)
        return initial_state(variables, optimizer, averaged=self.recipe.ema_decay > 0)


@dataclasses.dataclass(frozen=True)
class Programs:
    """Compiled for a plan: `train` takes one step, or one epoch; `evaluate` counts right answers in a batch."""

    train: Any
    evaluate: Any
    compile_seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Inputs `[examples, height, width, channels]` and labels `[examples]`, on the host or on the device."""

    inputs: np.ndarray | Array
    labels: np.ndarray | Array

    def __len__(self) -> int:
        return len(self.labels)


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


def lower(plan: Plan) -> tuple[Any, Any]:
    """Returns the plan's training and evaluation, lowered by JAX and not compiled yet.

    Raises:
      TrainingFailure: the state alone needs more memory than there is.
    """
    state = jax.eval_shape(plan.initial_state, variable_shapes(plan.spec))
    _require(memory.tree_bytes(state) * 2, "its weights, moments and gradients")
    key = jax.eval_shape(lambda: jax.random.key(0))
    sizes = {"steps_per_epoch": plan.num_steps, "num_frozen": plan.num_frozen}
    step = make_train_step(plan.spec, plan.recipe, **sizes, layers=plan.layers)
    if plan.whole_epochs:
        order = jax.ShapeDtypeStruct((plan.num_steps, plan.batch_size), jnp.int32)
        epoch = jax.jit(_make_epoch(step), donate_argnums=0)
        train = epoch.lower(state, _examples(plan, plan.num_train), order, key)
    else:
        train = jax.jit(step, donate_argnums=0).lower(state, _examples(plan, plan.batch_size), key)
    eval_step = jax.jit(make_eval_step(plan.spec, plan.layers, plan.recipe.precision))
    return train, eval_step.lower(state.params, state.batch_stats, _examples(plan, EVAL_BATCH_SIZE))


def build(plan: Plan) -> Programs:
    """Returns the plan's programs, compiled ahead of time; may run in a thread.

    Raises:
      TrainingFailure: the programs, or the state alone, need more memory than there is.
    """
    started = time.perf_counter()
    with out_of_memory_is_failure():
        lowered_train, lowered_evaluate = lower(plan)
        options = compiler.options(plan.layers, plan.flops)
        train = lowered_train.compile(options)
        _require(memory.program_bytes(train), "its training step")
        evaluate = lowered_evaluate.compile(options)
        _require(memory.program_bytes(evaluate), "its evaluation")
        _epoch_order(jax.random.key(0), plan.num_train, plan.num_steps, plan.batch_size)  # not timed as training
    return Programs(train, evaluate, time.perf_counter() - started)


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

    The yielded state's buffers are reused by the next epoch: copy what is to be kept.

    Args:
      plan, programs: of the network.
      state: before `first_epoch`; on the host or on the device.
      train: what to train on.
      validation: what to evaluate on.
      key: the training's root; epochs and steps are folded in.
      first_epoch: from 0; epochs before it are in `state`.
      last_epoch: the one before which to stop; None is the recipe's end.
      deadline: `time.perf_counter()` seconds after which training is given up.

    Raises:
      TrainingFailure: a loss was not finite, memory ran out, or the deadline passed.
    """
    key_order, key_step = stream(key, "order"), stream(key, "step")
    with out_of_memory_is_failure():
        state = jax.tree.map(_on_device, state)
    for epoch in range(first_epoch, plan.recipe.epochs if last_epoch is None else last_epoch):
        order = _epoch_order(stream(key_order, "epoch", epoch), len(train), plan.num_steps, plan.batch_size)
        state = state._replace(loss_sum=_on_device(np.zeros((), np.float32)))
        with out_of_memory_is_failure():
            if plan.whole_epochs:
                state = programs.train(state, Batch(train.inputs, train.labels), order, key_step)
            else:
                for rows in np.asarray(order):
                    state = programs.train(state, take(train, rows), key_step)
                    _require_time(state, deadline)
            loss = float(state.loss_sum) / plan.num_steps
            if not math.isfinite(loss):
                raise TrainingFailure("diverged", f"a loss of epoch {epoch + 1} was not finite")
            accuracy = None if validation is None else count_correct(programs, state, validation) / len(validation)
        _require_time(state, deadline)
        yield EpochEnd(epoch, state, loss, accuracy)


def _on_device(leaf: np.ndarray | Array) -> Array:
    """Returns a copy on the device, where it is not there yet; `jnp.asarray` would compile a program for each shape."""
    return leaf if isinstance(leaf, jax.Array) else jax.device_put(np.array(leaf))  # JAX may alias NumPy's memory


def count_correct(programs: Programs, state: TrainState, examples: Examples) -> int:
    """Returns how many examples the network of `state` classifies rightly."""
    variables = learnt(state)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    counts = []
    for rows, padded in padded_batches(len(examples), EVAL_BATCH_SIZE):
        batch = take(examples, padded)
        labels = jnp.where(np.arange(EVAL_BATCH_SIZE) < len(rows), batch.labels, -1)
        counts.append(programs.evaluate(params, batch_stats, Batch(batch.inputs, labels)))
    return sum(int(count) for count in counts)


def require_finite(variables: Any) -> None:
    """Raises `TrainingFailure` if weights on the host are not finite: a last step may overflow after a finite loss."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise TrainingFailure("diverged", "the last step left weights that are not finite")


def take(examples: Examples, rows: np.ndarray) -> Batch:
    """Returns the examples at `rows`, int32 `[batch]`, as a batch."""
    if isinstance(examples.inputs, np.ndarray):
        return Batch(examples.inputs[rows], np.asarray(examples.labels)[rows])
    return _take_on_device(examples.inputs, examples.labels, rows)


@contextlib.contextmanager
def out_of_memory_is_failure() -> Iterator[None]:
    """Within it, running out of memory raises `TrainingFailure`; every other error passes."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            reason = str(error) or type(error).__name__  # the interpreter's own MemoryError says nothing
            raise TrainingFailure("out_of_memory", reason.splitlines()[0][:200]) from error
        raise


def _require_time(state: TrainState, deadline: float) -> None:
    if deadline == math.inf:
        return  # steps are dispatched ahead of the device; waiting for each is the price of a deadline
    jax.block_until_ready(state.loss_sum)
    if time.perf_counter() > deadline:
        raise TrainingFailure("out_of_time", "training took longer than fitness.max_seconds")


def _require(num_bytes: int, what: str) -> None:
    limit = memory.total_bytes()
    if num_bytes > limit:
        raise TrainingFailure("out_of_memory", f"{what} need {num_bytes / 1e9:.1f} GB, there are {limit / 1e9:.1f} GB")


def _make_epoch(step: Any) -> Any:
    def epoch(state: TrainState, examples: Batch, order: Array, key: PRNGKeyArray) -> TrainState:
        def body(state: TrainState, rows: Array) -> tuple[TrainState, None]:
            return step(state, Batch(examples.inputs[rows], examples.labels[rows]), key), None

        return jax.lax.scan(body, state, order)[0]

    return epoch


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _epoch_order(key: PRNGKeyArray, num_examples: int, num_steps: int, batch_size: int) -> Array:
    """Rows of each step, int32 `[steps, batch]`: a permutation, its start again at the end to fill the last batch."""
    order = jax.random.permutation(key, num_examples).astype(jnp.int32)
    return jnp.resize(order, (num_steps, batch_size))


@jax.jit
def _take_on_device(inputs: Array, labels: Array, rows: Array) -> Batch:
    return Batch(inputs[rows], labels[rows])


def _examples(plan: Plan, length: int) -> Batch:
    """So many examples' shapes."""
    inputs = jax.ShapeDtypeStruct((length, *plan.spec.input_shape), plan.input_dtype)
    return Batch(inputs, jax.ShapeDtypeStruct((length,), jnp.int32))
