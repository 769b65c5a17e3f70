"""Examples on the host or on an accelerator, and how batches are taken from them.

On an accelerator every new shape of a small operation is a program to compile, so there inputs hold whole batches, and
one program, a slice, takes any of them.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import numpy as np
from jax import lax

from vlga_jax.shapes import Array
from vlga_jax.training.inference import EVAL_BATCH_SIZE, padded_length, whole_batches
from vlga_jax.training.step import Batch


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and labels.

    Attributes:
      inputs: `[examples, height, width, channels]`, on the host; or on the device, where rows that are no examples
        follow until there are `padded_length(examples)`.
      labels: `[examples]`, int32.

    Raises:
      ValueError: there are other than so many inputs.
    """

    inputs: np.ndarray | Array
    labels: np.ndarray | Array

    def __post_init__(self) -> None:
        on_host = isinstance(self.inputs, np.ndarray)
        wanted = len(self.labels) if on_host else padded_length(len(self.labels))
        if len(self.inputs) != wanted:
            place = "host" if on_host else "device"
            raise ValueError(f"{len(self.inputs)} inputs on the {place} for {len(self.labels)} labels, not {wanted}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Of the examples' inputs, without the rows that follow."""
        return self.inputs.nbytes // max(len(self.inputs), 1) * len(self)

    def at(self, rows: np.ndarray) -> Batch:
        """Returns the examples at `rows`, int32 `[batch]`; for examples on the host."""
        return Batch(self.inputs[rows], self.labels[rows])

    def batches(self) -> Iterator[tuple[int, np.ndarray | Array]]:
        """Yields each batch's first row and inputs `[EVAL_BATCH_SIZE, ...]` in order; the last may end with others."""
        if isinstance(self.inputs, np.ndarray):
            yield from whole_batches(self.inputs)
        else:
            for start in range(0, len(self), EVAL_BATCH_SIZE):
                yield start, _slice(self.inputs, np.int32(start))

    def on_device(self) -> "Examples":
        """Returns the same on the device; what lies there already is not copied."""
        inputs = self.inputs
        if isinstance(inputs, np.ndarray):
            filled = np.zeros((padded_length(len(self)), *inputs.shape[1:]), inputs.dtype)
            filled[: len(self)] = inputs
            inputs = filled
        return Examples(*jax.block_until_ready(jax.device_put((inputs, self.labels))))


@jax.jit
def _slice(inputs: Array, start: Array) -> Array:
    return lax.dynamic_slice_in_dim(inputs, start, EVAL_BATCH_SIZE)


@functools.partial(jax.jit, donate_argnums=0)
def with_batch(outputs: Array, batch: Array, start: Array | np.int32) -> Array:
    """Returns `outputs` with a batch in place of the rows from `start` on; its buffer is used again."""
    return lax.dynamic_update_slice_in_dim(outputs, batch, start, axis=0)
