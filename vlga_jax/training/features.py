"""Outputs of the frozen prefix, computed once per phase: the data set of every training in that phase.

They are always computed block by block, so continuing from the previous phase's outputs and starting over from the
images give the same bits. A block's program is the evaluation of a network of this block and a head, which is what the
phase that added it trained: where its programs are still there, nothing is compiled. In inference mode an image's
features do not depend on its batch.
"""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.network import transfer
from vlga_jax.network.initialise import variable_shapes
from vlga_jax.network.spec import NetworkSpec
from vlga_jax.shapes import Array
from vlga_jax.training import memory
from vlga_jax.training.examples import Examples, with_batch
from vlga_jax.training.inference import EVAL_BATCH_SIZE, padded_length
from vlga_jax.training.programs import Plan

SHARE_OF_MEMORY = 0.4  # of the host's, for one phase's features; it may hold two phases'
SHARE_OF_DEVICE = 0.7  # of an accelerator's, for all features there but what fills batches; the rest is for training


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseData:
    """What a phase trains on and validates with: images, or features of its frozen prefix."""

    train: Examples
    validation: Examples


def fits_in_memory(spec: NetworkSpec, num_blocks: int, num_examples: int, precision: str) -> bool:
    """Returns whether the outputs of the first `num_blocks` blocks over all examples fit in host memory."""
    return _feature_bytes(spec, num_blocks, num_examples, precision) <= SHARE_OF_MEMORY * memory.host_bytes()


def fits_on_device(spec: NetworkSpec, num_blocks: int, num_examples: int, precision: str) -> bool:
    """Returns whether those outputs take no more than their share of the accelerator; on a CPU never."""
    return _fits_on_device(_feature_bytes(spec, num_blocks, num_examples, precision))


def to_device_if_it_fits(data: PhaseData) -> PhaseData:
    """Returns the data on the accelerator if they take no more than their share of it; on a CPU, as they are."""
    if _fits_on_device(_bytes_of(data)):
        with _others_may_use_the_device():
            return PhaseData(data.train.on_device(), data.validation.on_device())
    return data


def _fits_on_device(num_bytes: int) -> bool:
    return jax.default_backend() != "cpu" and num_bytes <= SHARE_OF_DEVICE * memory.total_bytes()


def _bytes_of(data: PhaseData) -> int:
    return data.train.nbytes + data.validation.nbytes


@contextlib.contextmanager
def _others_may_use_the_device() -> Iterator[None]:
    """Within it, running out of memory ends the block, with a warning: what should lie there lies on the host."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        logging.getLogger(__name__).warning(
            "training is slower, with other rounding: its inputs should fit on the device and stay on the host (%s)",
            str(error).splitlines()[0][:200],
        )


class PrefixFeatures:
    """Computes a prefix's features, remembering those of the newest prefix to continue from.

    Args:
      images: of which.
      evaluation_of: from a plan to its `Programs.evaluate`, compiled now or before.
    """

    def __init__(self, images: PhaseData, evaluation_of: Callable[[Plan], Any]):
        self._images, self._evaluation_of = images, evaluation_of
        self._digest: str | None = None
        self._num_blocks = 0
        self._features = images

    def of(
        self,
        digest: str,
        ancestor: str | None,
        plan: Plan,
        variables: dict[str, Any],
        num_ancestor_blocks: int,
    ) -> PhaseData:
        """Returns the outputs of all blocks of a network over the training and validation images.

        They lie on the accelerator if they fit there, else on the host.

        Args:
          digest: of the network's request; names its weights.
          ancestor: digest of the request whose blocks it inherited, or None.
          plan: of the whole network's training on images.
          variables: the whole network's.
          num_ancestor_blocks: how many blocks it inherited.
        """
        if digest == self._digest:
            return self._features
        num_examples = len(self._images.train) + len(self._images.validation)
        num_blocks = len(plan.spec.blocks)
        size = _feature_bytes(plan.spec, num_blocks, num_examples, plan.recipe.precision)
        continues = ancestor is not None and ancestor == self._digest and num_ancestor_blocks == self._num_blocks
        if isinstance(self._features.train.inputs, jax.Array):
            continues = continues and _fits_on_device(_bytes_of(self._features) + size)
        if not continues:
            self._digest, self._num_blocks, self._features = None, 0, self._images  # makes room for the new ones
        blocks = [self._block(plan, block, variables) for block in range(self._num_blocks, num_blocks)]
        kind = (plan.spec.shape_before(num_blocks), plan.recipe.precision, _fits_on_device(size))
        train, validation = (
            Examples(_outputs(blocks, part, *kind), part.labels)
            for part in (self._features.train, self._features.validation)
        )
        self._digest, self._num_blocks, self._features = digest, num_blocks, PhaseData(train, validation)
        return self._features

    def _block(self, plan: Plan, block: int, variables: dict[str, Any]) -> Callable[[Any], Array]:
        """From a batch of what goes into a block to what comes out; the head says nothing that matters."""
        own = plan.of_block(block)
        evaluate = self._evaluation_of(own)
        inherited = transfer.of_block(variables, block)
        blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variable_shapes(own.spec)["params"]["head"])
        there = jax.device_put(({**inherited["params"], "head": blank}, inherited.get("batch_stats", {})))
        return lambda inputs: evaluate(*there, inputs).outputs


def _outputs(
    blocks: Sequence[Callable[[Any], Array]],
    examples: Examples,
    example_shape: tuple[int, int, int],
    precision: str,
    on_device: bool,
) -> np.ndarray | Array:
    """The outputs of the last of these blocks; only its are held for all inputs, not those in between."""
    num_examples = len(examples)

    def batches() -> Iterator[tuple[int, Array]]:
        for start, batch in examples.batches():
            for block in blocks:
                batch = block(batch)
            yield start, batch  # type: ignore[misc]

    if on_device:
        there = None
        with _others_may_use_the_device():
            there = jnp.zeros((padded_length(num_examples), *example_shape), precision)
            for start, batch in batches():
                there = with_batch(there, batch, np.int32(start))
            return jax.block_until_ready(there)
        del there  # what is below needs its room
    outputs = np.empty((num_examples, *example_shape), jnp.dtype(precision))
    for start, batch in batches():
        outputs[start : start + EVAL_BATCH_SIZE] = np.asarray(batch)[: num_examples - start]
    return outputs


def _feature_bytes(spec: NetworkSpec, num_blocks: int, num_examples: int, precision: str) -> int:
    return math.prod(spec.shape_before(num_blocks)) * num_examples * jnp.dtype(precision).itemsize
