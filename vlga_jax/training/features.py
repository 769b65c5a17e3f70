"""Outputs of the frozen prefix, computed once per phase: the data set of every training in that phase.

They are always computed block by block with one program a block, so continuing from the previous phase's outputs and
starting over from the images give the same bits. In inference mode an image's features do not depend on its batch.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlga_jax.network import transfer
from vlga_jax.network.modules import ConvBlock
from vlga_jax.network.spec import BlockSpec, NetworkSpec
from vlga_jax.shapes import Array
from vlga_jax.training import memory
from vlga_jax.training.fit import Examples
from vlga_jax.training.step import EVAL_BATCH_SIZE, padded_batches, scale_images

SHARE_OF_MEMORY = 0.4  # of the device's, or the host's, for one phase's features; the host may hold two phases'


@dataclasses.dataclass(frozen=True, eq=False)
class PhaseData:
    """What a phase trains on and validates with: images, or features of its frozen prefix."""

    train: Examples
    validation: Examples


def fits_in_memory(spec: NetworkSpec, num_blocks: int, num_examples: int, precision: str) -> bool:
    """Returns whether the outputs of the first `num_blocks` blocks over all examples fit in host memory."""
    return _feature_bytes(spec, num_blocks, num_examples, precision) <= SHARE_OF_MEMORY * memory.host_bytes()


def to_device_if_it_fits(data: PhaseData) -> PhaseData:
    """Returns the data on the accelerator if they take no more than their share of it; on a CPU, as they are."""
    size = sum(examples.inputs.nbytes for examples in (data.train, data.validation))
    if jax.default_backend() == "cpu" or size > SHARE_OF_MEMORY * memory.total_bytes():
        return data
    try:
        train, validation = (
            Examples(*jax.block_until_ready(jax.device_put((examples.inputs, examples.labels))))
            for examples in (data.train, data.validation)
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return data  # others use the device too
        raise
    return PhaseData(train, validation)


class PrefixFeatures:
    """Computes a prefix's features, remembering those of the newest prefix to continue from."""

    def __init__(self, images: PhaseData, layers: str = "tuned"):
        self._images, self._layers = images, layers
        self._digest: str | None = None
        self._num_blocks = 0
        self._features = images

    def of(
        self,
        digest: str,
        ancestor: str | None,
        spec: NetworkSpec,
        variables: dict[str, Any],
        num_ancestor_blocks: int,
        precision: str = "float32",
    ) -> PhaseData:
        """Returns the outputs of all blocks of a network over the training and validation images, on the host.

        Args:
          digest: of the network's request; names its weights.
          ancestor: digest of the request whose blocks it inherited, or None.
          spec: the whole network.
          variables: the whole network's.
          num_ancestor_blocks: how many blocks it inherited.
          precision: of the activations.
        """
        if digest == self._digest:
            return self._features
        features, first = self._images, 0
        if ancestor is not None and ancestor == self._digest and num_ancestor_blocks == self._num_blocks:
            features, first = self._features, self._num_blocks
        train, validation = (
            Examples(_outputs(spec, variables, first, np.asarray(part.inputs), self._layers, precision), part.labels)
            for part in (features.train, features.validation)
        )
        features = PhaseData(train, validation)
        self._digest, self._num_blocks, self._features = digest, len(spec.blocks), features
        return features


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _apply_block(
    block: BlockSpec, activation: str, layers: str, precision: str, variables: dict[str, Any], inputs: Array
) -> Array:
    module = ConvBlock(block, activation, layers)
    images = scale_images(inputs).astype(precision)
    return module.apply(variables, images, train=False)  # type: ignore[return-value]


def _outputs(
    spec: NetworkSpec, variables: dict[str, Any], first: int, inputs: np.ndarray, layers: str, precision: str
) -> np.ndarray:
    """The outputs of blocks `first` to the last; only theirs are held for all inputs, not those in between."""
    outputs = np.empty((len(inputs), *spec.shape_before(len(spec.blocks))), jnp.dtype(precision))
    own = [transfer.block_variables(variables, block) for block in range(len(spec.blocks))]
    for rows, padded in padded_batches(len(inputs), EVAL_BATCH_SIZE):
        batch = inputs[padded]
        for block in range(first, len(spec.blocks)):
            batch = _apply_block(spec.blocks[block], spec.activation, layers, precision, own[block], batch)
        outputs[rows] = np.asarray(batch)[: len(rows)]
    return outputs


def _feature_bytes(spec: NetworkSpec, num_blocks: int, num_examples: int, precision: str) -> int:
    return math.prod(spec.shape_before(num_blocks)) * num_examples * jnp.dtype(precision).itemsize
