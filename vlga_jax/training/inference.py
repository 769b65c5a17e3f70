"""What a network makes of examples when nothing is learnt: one batch's function, to be jitted by the caller."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vlga_jax.network.modules import ConvNet
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.shapes import Array
from vlga_jax.training.step import scale_images

EVAL_BATCH_SIZE = 256  # images a batch wherever nothing is learnt


class Answers(NamedTuple):
    """What a network makes of a batch when nothing is learnt.

    Attributes:
      logits: float32 `[batch, classes]`.
      outputs: of its last block, `[batch, height, width, channels]` in the recipe's precision, which are the features
        of a network that inherits it; the inputs where there is no block.
    """

    logits: Any
    outputs: Any


def whole_batches(inputs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each batch's first row and inputs `[EVAL_BATCH_SIZE, ...]` in order; the last repeats its own."""
    for start in range(0, len(inputs), EVAL_BATCH_SIZE):
        batch = inputs[start : start + EVAL_BATCH_SIZE]
        yield start, batch if len(batch) == EVAL_BATCH_SIZE else np.resize(batch, (EVAL_BATCH_SIZE, *batch.shape[1:]))


def padded_length(num_examples: int) -> int:
    """Returns how many rows whole batches of `EVAL_BATCH_SIZE` hold that so many examples fit in."""
    return -(-num_examples // EVAL_BATCH_SIZE) * EVAL_BATCH_SIZE


def make_eval_step(
    spec: NetworkSpec, layers: str = "tuned", precision: str = "float32"
) -> Callable[[Any, Any, Any], Answers]:
    """Returns the function from params, batch statistics and a batch's inputs to what the network makes of them."""
    model = ConvNet(spec, layers, precision)
    last = f"block_{len(spec.blocks) - 1}"

    def eval_step(params: Any, batch_stats: Any, inputs: Array) -> Answers:
        variables = {"params": params, "batch_stats": batch_stats}
        logits, captured = model.apply(
            variables,
            scale_images(inputs),
            train=False,
            capture_intermediates=lambda module, _: module.name == last,
            mutable=["intermediates"],
        )
        outputs = captured["intermediates"][last]["__call__"][0].astype(precision) if spec.blocks else inputs
        return Answers(logits, outputs)

    return eval_step
