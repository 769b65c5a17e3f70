"""What a training runs: its programs, compiled ahead of time from a plan of all that they depend on.

On a CPU steps are driven from Python, because XLA runs convolutions inside a loop 4 to 100 times slower there;
elsewhere an epoch is one program (`jax.lax.scan`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.transfer import Variables
from vlga_jax.shapes import Array, PRNGKeyArray
from vlga_jax.training import compiler, memory
from vlga_jax.training.failure import OUT_OF_MEMORY, TrainingFailure, failures_of_the_network
from vlga_jax.training.inference import EVAL_BATCH_SIZE, make_eval_step, padded_length
from vlga_jax.training.packing import PackedStep, Packing, packed_shape, packing_of, shared_update
from vlga_jax.training.step import (
    Batch,
    Recipe,
    TrainState,
    initial_state,
    make_gradient,
    make_optimizer,
    make_train_step,
    steps_per_epoch,
)


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

    @functools.cached_property
    def packing(self) -> Packing | None:
        """How weights are packed while steps are taken, on a CPU; None where all of a step is one program."""
        by_steps = jax.default_backend() == "cpu" and not self.whole_epochs
        if not by_steps or self.num_frozen or self.layers != "tuned":
            return None
        return packing_of(self.spec, self.recipe)

    def of_block(self, block: int) -> "Plan":
        """Returns the plan of a network of one of these blocks and a head, trained on the outputs of those before."""
        own = self.spec.suffix(block)
        return dataclasses.replace(
            self,
            spec=dataclasses.replace(own, blocks=own.blocks[:1]),
            num_frozen=0,
            input_dtype=self.recipe.precision if block else self.input_dtype,
        )

    @property
    def of_evaluation(self) -> tuple[Any, ...]:
        """All that `Programs.evaluate` depends on."""
        return self.spec, self.recipe.precision, self.input_dtype, self.layers

    def initial_state(self, variables: Variables) -> TrainState:
        """Returns the state before the first step, from the network's variables, on the host."""
        optimizer = make_optimizer(self.recipe, steps_per_epoch=self.num_steps, num_frozen=self.num_frozen)
        return initial_state(variables, optimizer, averaged=self.recipe.ema_decay > 0)


@dataclasses.dataclass(frozen=True)
class Programs:
    """Compiled for a plan.

    Attributes:
      train: takes one step, of a packed state where the plan packs, or one epoch.
      evaluate: from params, batch statistics and a batch's inputs to `Answers`; None where nothing is evaluated.
    """

    train: Any
    evaluate: Any


def lower(plan: Plan) -> tuple[Any, Any]:
    """Returns the plan's training and evaluation, lowered by JAX and not compiled yet.

    Training is an epoch, a step or, where the plan packs, the part of a step that depends on the network.

    Raises:
      TrainingFailure: the state alone needs more memory than there is.
    """
    return _lower_training(plan), _lower_evaluation(plan)


def _lower_evaluation(plan: Plan) -> Any:
    shapes = variable_shapes(plan.spec)
    inputs = _examples(plan, EVAL_BATCH_SIZE).inputs
    eval_step = jax.jit(make_eval_step(plan.spec, plan.layers, plan.recipe.precision))
    return eval_step.lower(shapes["params"], shapes.get("batch_stats", {}), inputs)


def _lower_training(plan: Plan) -> Any:
    state = jax.eval_shape(plan.initial_state, variable_shapes(plan.spec))
    _require(memory.tree_bytes(state) * 2, "its weights, moments and gradients need")
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = _examples(plan, plan.batch_size)
    if plan.packing is not None:
        gradient = plan.packing.gradient(make_gradient(plan.spec, plan.recipe, num_frozen=0, layers=plan.layers))
        arguments = (packed_shape(plan.packing.length), state.batch_stats, batch, state.step, key)
        return jax.jit(gradient, donate_argnums=1).lower(*arguments)
    sizes = {"steps_per_epoch": plan.num_steps, "num_frozen": plan.num_frozen}
    step = make_train_step(plan.spec, plan.recipe, **sizes, layers=plan.layers)
    if plan.whole_epochs:
        order = jax.ShapeDtypeStruct((plan.num_steps, plan.batch_size), jnp.int32)
        inputs = _examples(plan, padded_length(plan.num_train)).inputs
        examples = Batch(inputs, jax.ShapeDtypeStruct((plan.num_train,), jnp.int32))
        return jax.jit(_make_epoch(step), donate_argnums=0).lower(state, examples, order, key)
    return jax.jit(step, donate_argnums=0).lower(state, batch, key)


def build(plan: Plan, *, evaluates: bool = True) -> Programs:
    """Returns the plan's programs, compiled ahead of time.

    Args:
      plan: of the training.
      evaluates: whether an evaluation is needed, too.

    Raises:
      TrainingFailure: as for the parts.
    """
    return Programs(build_training(plan), build_evaluation(plan) if evaluates else None)


def build_training(plan: Plan) -> Any:
    """Returns `Programs.train`, compiled ahead of time; may run in a thread.

    Raises:
      TrainingFailure: it, or the state alone, needs more memory than there is, or the compiler knows no way to run it.
    """
    with failures_of_the_network():
        train = _lower_training(plan).compile(compiler.options(plan.layers))
        num_bytes = memory.program_bytes(train)
        if plan.packing is not None:
            update = _update_of(plan, plan.packing)
            num_bytes += memory.program_bytes(update)  # as if at once: weights and their gradients count twice
            train = PackedStep(train, update)
        _require(num_bytes, "its training needs")
        # Not timed as training.
        epoch_order(jax.random.key(0), plan.num_train, plan.num_steps, plan.batch_size)
    return train


def build_evaluation(plan: Plan) -> Any:
    """Returns `Programs.evaluate`, compiled ahead of time; may run in a thread.

    Raises:
      TrainingFailure: it needs more memory than there is, or the compiler knows no way to run it.
    """
    with failures_of_the_network():
        evaluate = _lower_evaluation(plan).compile(compiler.options(plan.layers))
        _require(memory.program_bytes(evaluate), "its evaluation needs")
    return evaluate


def _update_of(plan: Plan, packing: Packing) -> Any:
    """The rest of a step, whose lowered training is the gradient alone."""
    return shared_update(
        plan.recipe,
        steps_per_epoch=plan.num_steps,
        batch_size=plan.batch_size,
        num_classes=plan.spec.num_classes,
        length=packing.length,
    )


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def epoch_order(key: PRNGKeyArray, num_examples: int, num_steps: int, batch_size: int) -> Array:
    """Rows of each step, int32 `[steps, batch]`: a permutation, its start again at the end to fill the last batch."""
    order = jax.random.permutation(key, num_examples).astype(jnp.int32)
    return jnp.resize(order, (num_steps, batch_size))


def _require(num_bytes: int, what: str) -> None:
    limit = memory.total_bytes()
    if num_bytes > limit:
        raise TrainingFailure(OUT_OF_MEMORY, f"{what} {num_bytes / 1e9:.1f} GB, there are {limit / 1e9:.1f} GB")


def _make_epoch(step: Any) -> Any:
    def epoch(state: TrainState, examples: Batch, order: Array, key: PRNGKeyArray) -> TrainState:
        def body(state: TrainState, rows: Array) -> tuple[TrainState, None]:
            return step(state, Batch(examples.inputs[rows], examples.labels[rows]), key), None

        return jax.lax.scan(body, state, order)[0]

    return epoch


def _examples(plan: Plan, length: int) -> Batch:
    """So many examples' shapes."""
    inputs = jax.ShapeDtypeStruct((length, *plan.spec.input_shape), plan.input_dtype)
    return Batch(inputs, jax.ShapeDtypeStruct((length,), jnp.int32))
