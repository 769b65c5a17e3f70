"""All weights of a network as one vector while it is trained, so that networks share the program that updates them.

A kernel of few numbers takes as long to compile as a large one, and those of loss, optimizer and counters are the same
for all networks but for their shapes. Of vectors there are few lengths. The bits are those of a step that is one
program. `docs/performance/cpu.md` has the figures.
"""

import dataclasses
import functools
import math
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec, count_parameters
from vlga_jax.shapes import Array, PRNGKeyArray
from vlga_jax.training import compiler
from vlga_jax.training.step import Batch, Gradient, Recipe, TrainState, initial_state, make_optimizer, make_update

_SHORTEST, _GROWTH, _LONGEST = 1 << 12, 4, 1 << 16  # of the lengths; with longer vectors padding would cost steps
_UPDATES_KEPT = 32  # at least as many as a search has recipes and lengths
_NAME = "weights"  # of the only leaf of a packed network's params
_compiling = threading.Lock()


def packing_of(spec: NetworkSpec, recipe: Recipe) -> "Packing | None":
    """Returns how the network is packed; None where its weights do not all learn by one rule, or are too many."""
    packing = Packing(spec)
    return packing if learns_alike(recipe) and packing.num_weights <= _LONGEST else None


def learns_alike(recipe: Recipe) -> bool:
    """Returns whether every weight learns by the same rule, and alone: then a vector's place says nothing."""
    return recipe.weight_decay == recipe.ema_decay == recipe.clip_norm == 0


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
        return count_parameters(self.spec)

    @functools.cached_property
    def length(self) -> int:
        """Of the vector: one of few."""
        length = _SHORTEST
        while length < self.num_weights:
            length *= _GROWTH
        return length

    def packed(self, state: TrainState) -> TrainState:
        """Returns the state with its params, and moments, as vectors on the host."""
        return state._replace(
            params={_NAME: self._vector(jax.tree.leaves(state.params))},
            opt_state=jax.tree.map(
                lambda leaf: self._vector([leaf]) if leaf.shape == (self.num_weights,) else leaf, state.opt_state
            ),
        )

    def unpacked(self, state: TrainState) -> TrainState:
        """Returns a copy on the host, as it was before `packed`."""

        def unpadded(leaf: Any) -> np.ndarray:
            return np.array(np.asarray(leaf)[: self.num_weights] if leaf.shape == (self.length,) else leaf)

        state = jax.tree.map(unpadded, state)
        return state._replace(params=self._tree(state.params[_NAME]))

    def gradient(self, gradient: Callable[..., Gradient]) -> Callable[..., Gradient]:
        """Returns the function of packed params to the packed gradient, from that of a network's."""

        def packed(params: Any, batch_stats: Any, batch: Batch, step: Array, key: PRNGKeyArray) -> Gradient:
            found = gradient(self._tree(params[_NAME]), batch_stats, batch, step, key)
            leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(found.params)]
            padding = jnp.zeros(self.length - self.num_weights)
            return found._replace(params={_NAME: jnp.concatenate([*leaves, padding])})

        return packed

    def _vector(self, leaves: list[Any]) -> np.ndarray:
        vector = np.zeros(self.length, np.float32)
        np.concatenate([np.ravel(leaf) for leaf in leaves], out=vector[: self.num_weights])
        return vector

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


def shared_update(recipe: Recipe, *, steps_per_epoch: int, batch_size: int, num_classes: int, length: int) -> Any:
    """Returns the compiled program that updates packed weights of this length; all networks with them share it.

    May be asked for in several threads: it is compiled once.
    """
    with _compiling:
        return _update(recipe, steps_per_epoch, batch_size, num_classes, length)


@functools.lru_cache(_UPDATES_KEPT)
def _update(recipe: Recipe, steps_per_epoch: int, batch_size: int, num_classes: int, length: int) -> Any:
    assert learns_alike(recipe)
    weights = packed_shape(length)
    optimizer = make_optimizer(recipe, steps_per_epoch=steps_per_epoch, num_frozen=0)
    state = jax.eval_shape(lambda weights: initial_state({"params": weights}, optimizer), weights)
    gradient = Gradient(weights, {}, jax.ShapeDtypeStruct((batch_size, num_classes), jnp.float32))
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    update = make_update(recipe, steps_per_epoch=steps_per_epoch, num_frozen=0)
    return jax.jit(update, donate_argnums=0).lower(state, gradient, labels).compile(compiler.options("tuned"))
