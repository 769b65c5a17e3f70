"""All weights of a network as one vector while it is trained, so that networks share the program that updates them.

Loss, optimizer and counters are a third of a training step's kernels, and a kernel of few numbers takes as long to
compile as a large one. Their program depends on the vector's length alone, of which there are few. The bits are those
of a step that is one program.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.shapes import Array, PRNGKeyArray
from vlga_jax.training import compiler
from vlga_jax.training.step import Batch, Gradient, Recipe, TrainState, initial_state, make_optimizer, make_update

_SHORTEST, _GROWTH = 1 << 12, 4  # of the vectors' lengths
_NAME = "weights"  # of the only leaf of a packed network's params


@dataclasses.dataclass(frozen=True)
class Packing:
    """How a network's params become a vector, float32, padded with zeros; `spec` is the network that is trained."""

    spec: NetworkSpec

    @functools.cached_property
    def _shapes(self) -> Any:
        return variable_shapes(self.spec)["params"]

    @functools.cached_property
    def num_weights(self) -> int:
        """How many of the vector's places hold a weight."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self._shapes))

    @functools.cached_property
    def length(self) -> int:
        """Of the vector: one of few."""
        length = _SHORTEST
        while length < self.num_weights:
            length *= _GROWTH
        return length

    def packed(self, state: TrainState) -> TrainState:
        """Returns the state, on the host, with its params, and moments, as vectors."""
        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(state.params)]
        return state._replace(
            params={_NAME: self._padded(np.concatenate(leaves))},
            opt_state=jax.tree.map(lambda leaf: self._padded(leaf) if self._is_moment(leaf) else leaf, state.opt_state),
        )

    def unpacked(self, state: TrainState) -> TrainState:
        """Returns a copy on the host, as it was before `packed`."""
        state = jax.tree.map(np.array, state)
        moments = (self.length,)
        return state._replace(
            params=self._tree(state.params[_NAME]),
            opt_state=jax.tree.map(
                lambda leaf: leaf[: self.num_weights] if leaf.shape == moments else leaf, state.opt_state
            ),
        )

    def gradient(self, gradient: Callable[..., Gradient]) -> Callable[..., Gradient]:
        """Returns the function of packed params to the packed gradient, from that of a network's."""

        def packed(params: Any, batch_stats: Any, batch: Batch, step: Array, key: PRNGKeyArray) -> Gradient:
            found = gradient(self._tree(params[_NAME]), batch_stats, batch, step, key)
            leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(found.params)]
            padding = jnp.zeros(self.length - self.num_weights)
            return found._replace(params={_NAME: jnp.concatenate([*leaves, padding])})

        return packed

    def _is_moment(self, leaf: Any) -> bool:
        return leaf.shape == (self.num_weights,)

    def _padded(self, leaf: Any) -> np.ndarray:
        return np.pad(np.asarray(leaf), (0, self.length - self.num_weights))

    def _tree(self, vector: Any) -> Any:
        leaves, tree = jax.tree.flatten(self._shapes)
        ends = np.cumsum([math.prod(leaf.shape) for leaf in leaves]).tolist()
        starts = [0, *ends[:-1]]
        parts = [vector[start:end].reshape(leaf.shape) for start, end, leaf in zip(starts, ends, leaves, strict=True)]
        return jax.tree.unflatten(tree, parts)


def packed_shape(length: int) -> Any:
    """Returns the shape of packed params."""
    return {_NAME: jax.ShapeDtypeStruct((length,), jnp.float32)}


@dataclasses.dataclass(frozen=True)
class PackedStep:
    """A training step of two compiled programs, called as `make_train_step`'s function is."""

    gradient: Any
    update: Any

    def __call__(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> TrainState:
        """Returns the state after the step; both are packed, and the one given is used up."""
        gradient = self.gradient(state.params, state.batch_stats, batch, state.step, key)
        after = self.update(state._replace(batch_stats={}), gradient._replace(batch_stats={}), batch.labels)
        return after._replace(batch_stats=gradient.batch_stats)


@functools.cache
def shared_update(recipe: Recipe, steps_per_epoch: int, batch_size: int, num_classes: int, length: int) -> Any:
    """Returns the compiled program that updates packed weights of this length; all networks with them share it."""
    weights = packed_shape(length)
    optimizer = make_optimizer(recipe, steps_per_epoch=steps_per_epoch, num_frozen=0)
    state = jax.eval_shape(lambda weights: initial_state({"params": weights}, optimizer), weights)
    gradient = Gradient(weights, {}, jax.ShapeDtypeStruct((batch_size, num_classes), jnp.float32))
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    update = make_update(recipe, steps_per_epoch=steps_per_epoch, num_frozen=0)
    return jax.jit(update, donate_argnums=0).lower(state, gradient, labels).compile(compiler.options("tuned", 0.0))
