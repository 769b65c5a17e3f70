"""The weights worth keeping: one Orbax checkpoint per request, named by its digest.

Orbax commits by an atomic rename: a checkpoint is there whole or not at all. Weights that turn out missing are no loss:
the training that made them can be repeated, to the same bits.

So they are written in a thread while the next network trains, in the order in which they come.

A checkpoint is one vector of all weights, in the order of the variables' tree: Orbax takes its time for each array,
however small (six blocks: 0.07 s as 78 arrays, 0.025 s as one; two cores).
"""

import functools
import math
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlga_jax.disk import require_space
from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.network.transfer import Variables

_VALUES = "values"
_ENVIRONMENT = "environment.json"


class WeightStore:
    """Weights below a directory.

    Args:
      directory: made if missing.
      environment: what weights depend on besides their request, see `environment.py`. Those left by another, or by
        several, are deleted when weights are first asked for or written; None is content with all.
    """

    def __init__(self, directory: Path, environment: str | None = None):
        self._directory = directory.resolve()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._environment, self._settled = environment, False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._writing: list[Future[None]] = []

    def has(self, digest: str) -> bool:
        """Returns whether the weights of a request are here."""
        self.wait()
        self._settle()
        return (self._directory / digest).is_dir()

    def save(self, digest: str, variables: Variables) -> None:
        """Begins to write a request's weights; they are durable after `wait`.

        Raises:
          OSError: those that came before could not be written.
        """
        self._settle()
        values = np.concatenate([np.asarray(leaf, np.float32).ravel() for leaf in jax.tree.leaves(variables)])
        self._queue(self._write, digest, values)

    def load(self, digest: str, spec: NetworkSpec) -> Variables:
        """Returns the weights of a request, as NumPy arrays.

        Args:
          digest: of the request.
          spec: of its whole network; the weights must have its shapes.
        """
        self.wait()
        shapes, tree = jax.tree.flatten(variable_shapes(spec))
        sizes = [math.prod(shape.shape) for shape in shapes]
        wanted = {_VALUES: np.empty(sum(sizes), np.float32)}
        values = np.asarray(self._checkpointer.restore(self._directory / digest, wanted)[_VALUES])
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return jax.tree.unflatten(tree, [part.reshape(each.shape) for part, each in zip(parts, shapes, strict=True)])

    def keep_only(self, digests: Iterable[str]) -> None:
        """Deletes all weights but these requests'."""
        self.wait()
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
        """Deletes a request's weights, if they are here or on their way."""
        self._queue(functools.partial(shutil.rmtree, ignore_errors=True), self._directory / digest)

    def wait(self) -> None:
        """Waits until all that was saved or dropped is.

        Raises:
          OSError: weights could not be written.
        """
        while self._writing:
            self._writing.pop(0).result()

    def close(self) -> None:
        """Ends when everything is written."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            if "_checkpointer" in vars(self):
                self._checkpointer.close()

    def _queue(self, do: Callable[..., None], *arguments: Any) -> None:
        while self._writing and self._writing[0].done():
            self._writing.pop(0).result()
        self._writing.append(self._writer.submit(do, *arguments))

    def _write(self, digest: str, values: np.ndarray) -> None:
        require_space(self._directory, values.nbytes)
        self._checkpointer.save(self._directory / digest, {_VALUES: values}, force=True)

    @functools.cached_property
    def _checkpointer(self) -> Any:
        """Asked for by one thread at a time. A tenth of a second to import, while the first network trains."""
        import orbax.checkpoint as ocp

        return ocp.Checkpointer(ocp.StandardCheckpointHandler())
