"""Whitened patches of images: what a network may see in place of pixels, which are alike all around.

Every 2x2 patch becomes its principal components over the training images, each scaled to variance 1: a fixed linear map
that is not learnt. Networks of any kind learn faster behind it; `docs/evidence.md` has the figures.

Source: Page 2019, "How to train your ResNet 8", and Jordan 2024 (arXiv 2404.00498), section 3.2, whose first layer it
is. There each component comes a second time, negated, and both go through an activation; here neither does.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vlga_jax.network.spec import WHITENED_PATCH
from vlga_jax.shapes import Array, Float

WHITENING = "whitening"  # the module's name in a network
_NUM_PATCHES = 5_000_000  # that statistics are taken of, about
_LEAST_VARIANCE = 5e-4  # of the pixels'; components of less are noise, and not scaled up to 1 (Jordan 2024)
_PLACES = tuple(itertools.product(range(WHITENED_PATCH), repeat=2))  # of a patch's pixels, row and column
_BORDER = ((0, 0), (0, 1), (0, 1), (0, 0))  # of a batch

PatchStatistics = dict[str, np.ndarray]
"""A `Whitening`'s variables: mean, float32 [channels]; kernel, float32 [4 * channels, components], as many."""


class Whitening(nn.Module):
    """Patches of images as their components; a pixel's patch lies to its right and below, where a border repeats.

    Its variables are in the collection `batch_stats`: they are statistics of images, and no step changes them.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width components"]:
        channels = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        kernel = self.variable("batch_stats", "kernel", jnp.zeros, (WHITENED_PATCH**2 * channels,) * 2)
        # As one product, three times as fast on a CPU as a convolution. In full precision: small components are scaled
        # up a hundred times, and their rounding with them.
        patches = _patches(jnp.pad(x.astype(jnp.float32) - mean.value[None, None, None], _BORDER, mode="edge"))
        return jnp.matmul(patches, kernel.value, precision=lax.Precision.HIGHEST)


def _patches(padded: Any) -> Any:
    """The pixels of each patch `[..., 4 * channels]` of images with one more row and column."""
    xp = jnp if isinstance(padded, jax.Array) else np
    height, width = padded.shape[1] - 1, padded.shape[2] - 1
    return xp.concatenate([padded[:, row : row + height, column : column + width] for row, column in _PLACES], axis=-1)


def patch_statistics(images: np.ndarray) -> PatchStatistics:
    """Returns the variables of a `Whitening` for these images; of many, some evenly spaced ones are taken.

    Components are in the order of their variance, the largest first. Equal images give equal bits on one machine.

    Args:
      images: uint8 `[images, height, width, channels]`, at least one.
    """
    height, width, channels = images.shape[1:]
    size = WHITENED_PATCH**2 * channels
    some = images[:: max(1, len(images) * height * width // _NUM_PATCHES)]
    sums, products = np.zeros(size), np.zeros((size, size))  # whole numbers below 2**53: exact in any order
    for image in some:
        patches = _patches(np.pad(image[None].astype(np.float64), _BORDER, mode="edge")).reshape(-1, size)
        sums += patches.sum(0)
        products += patches.T @ patches
    count = len(some) * height * width
    mean = sums / count / 255.0
    covariance = products / count / 255.0**2 - np.outer(mean, mean)
    variances, components = np.linalg.eigh(covariance)
    variances, components = variances[::-1], components[:, ::-1]
    largest = components[np.abs(components).argmax(0), range(size)]
    least = _LEAST_VARIANCE * np.trace(covariance) / size
    scale = np.sqrt(np.maximum(variances, 0.0) + least) if least > 0 else 1.0
    kernel = components * np.sign(largest) / scale  # of both signs always the same one
    return {"kernel": kernel.astype(np.float32), "mean": mean.reshape(-1, channels).mean(0).astype(np.float32)}
