"""The weights worth keeping: one Orbax checkpoint per request, named by its digest.

Orbax commits by an atomic rename: a checkpoint is there whole or not at all. Weights that turn out missing are no loss:
the training that made them can be repeated, to the same bits.

A checkpoint is one vector of all weights, in the order of the variables' tree: Orbax takes its time for each array,
however small (six blocks: 0.07 s as 78 arrays, 0.025 s as one; two cores).
"""

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.transfer import Variables

_VALUES = "values"
_ENVIRONMENT = "environment.json"


class WeightStore:
    """Weights below a directory.

    Args:
      directory: made if missing.
      environment: what weights depend on besides their request, see `evaluation.environment`. Those left by another, or
        by several, are deleted when weights are first asked for or written; None is content with all.
    """

    def __init__(self, directory: Path, environment: str | None = None):
        self._directory = directory.resolve()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._environment, self._settled = environment, False
        self._checkpointer = ocp.Checkpointer(ocp.StandardCheckpointHandler())

    def has(self, digest: str) -> bool:
        """Returns whether the weights of a request are here."""
        self._settle()
        return (self._directory / digest).is_dir()

    def save(self, digest: str, variables: Variables) -> None:
        """Writes a request's weights; they are durable when this returns."""
        self._settle()
        values = np.concatenate([np.asarray(leaf, np.float32).ravel() for leaf in jax.tree.leaves(variables)])
        self._checkpointer.save(self._directory / digest, args=ocp.args.StandardSave({_VALUES: values}), force=True)

    def load(self, digest: str, spec: NetworkSpec) -> Variables:
        """Returns the weights of a request, as NumPy arrays.

        Args:
          digest: of the request.
          spec: of its whole network; the weights must have its shapes.
        """
        shapes, tree = jax.tree.flatten(variable_shapes(spec))
        sizes = [math.prod(shape.shape) for shape in shapes]
        wanted = ocp.args.StandardRestore({_VALUES: np.empty(sum(sizes), np.float32)})
        values = np.asarray(self._checkpointer.restore(self._directory / digest, args=wanted)[_VALUES])
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return jax.tree.unflatten(tree, [part.reshape(each.shape) for part, each in zip(parts, shapes, strict=True)])

    def keep_only(self, digests: Iterable[str]) -> None:
        """Deletes all weights but these requests'."""
        kept = set(digests)
        for path in self._directory.iterdir():
            if path.name not in kept and path.is_dir():
                shutil.rmtree(path)

    def _settle(self) -> None:
        """Deletes what another environment left; not at once, because a run may still be refused."""
        if self._settled:
            return
        self._settled = True
        left_by = self._directory / _ENVIRONMENT
        if self._environment is None:
            left_by.unlink(missing_ok=True)
        elif not left_by.is_file() or left_by.read_text() != self._environment:
            self.keep_only(())
            left_by.write_text(self._environment)

    def drop(self, digest: str) -> None:
        """Deletes a request's weights, if they are here."""
        shutil.rmtree(self._directory / digest, ignore_errors=True)

    def close(self) -> None:
        self._checkpointer.close()
