"""Whitened patches of images: what a network may see in place of pixels, which are alike all around.

Every 2x2 patch becomes its principal components over the training images, each scaled to variance 1: a fixed linear map
in front of the first block. Networks learn faster behind it (`docs/evidence/training.md`).

Source: the first layer of Jordan 2024 (arXiv 2404.00498, section 3.2), after Page 2019, "How to train your ResNet 8".
In Jordan's every component comes a second time, negated, and both get a learnt offset and an activation; not here.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vlga_jax.network.spec import WHITENED_PATCH
from vlga_jax.shapes import Array, Float

WHITENING = "whitening"  # the module's name in a network
_NUM_PATCHES = 5_000_000  # how many patches the statistics take, if there are as many
_PATCHES_AT_ONCE = 100_000
_LEAST_VARIANCE = 5e-4  # of the pixels'; components of less variance are noise, and not scaled up to 1 (Jordan 2024)
_PLACES = tuple(itertools.product(range(WHITENED_PATCH), repeat=2))  # of a patch's pixels, row and column
_BORDER = ((0, 0), (0, 1), (0, 1), (0, 0))  # of a batch
_SWEEPS = 16  # of Jacobi's method; a dozen rows need about seven

PatchStatistics = dict[str, np.ndarray]
"""A `Whitening`'s variables: mean, float32 [channels]; kernel, float32 [4 * channels, components], as many of these."""


class Whitening(nn.Module):
    """From pixels to components of their patches: a pixel and those to its right, below, and below to the right.

    Beyond the border the last pixels repeat. Its variables are in the collection `batch_stats`: they are statistics of
    images, and no step changes them.
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


def patch_statistics(images: np.ndarray | Array) -> PatchStatistics:
    """Returns the variables of a `Whitening` for these images; of many, some evenly spaced ones are taken.

    Components are in the order of their variance, the largest first. Equal images give equal bits on every machine.

    Args:
      images: uint8 `[images, height, width, channels]`, at least one.
    """
    channels, size = images.shape[-1], WHITENED_PATCH**2 * images.shape[-1]
    sums, products, count = np.zeros(size), np.zeros((size, size)), 0  # whole numbers below 2**53: exact in any order
    for patches in _some_patches(np.asarray(images)):
        sums += patches.sum(0)
        products += patches.T @ patches
        count += len(patches)
    whole, squares = (part.astype(np.int64).astype(object) for part in (sums, products))
    covariance = ((count * squares - np.outer(whole, whole)) / (255 * count) ** 2).astype(np.float64)
    mean = (whole / (255 * count)).astype(np.float64)
    variances, components = _eigen(covariance)
    order = np.argsort(-variances, kind="stable")
    variances, components = variances[order], components[:, order]
    largest = components[np.abs(components).argmax(0), range(size)]
    least = _LEAST_VARIANCE * np.trace(covariance) / size
    scale = np.sqrt(np.maximum(variances, 0.0) + least) if least > 0 else 1.0
    kernel = components * np.sign(largest) / scale  # each component's largest weight is positive
    return {"kernel": kernel.astype(np.float32), "mean": mean.reshape(-1, channels).mean(0).astype(np.float32)}


def _some_patches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yields patches of evenly spaced images, float64 `[patches, 4 * channels]`, a part at a time."""
    height, width, channels = images.shape[1:]
    some = images[:: -(-len(images) * height * width // _NUM_PATCHES)]
    rows = max(1, min(height, _PATCHES_AT_ONCE // width))
    together = max(1, _PATCHES_AT_ONCE // (height * width))
    for first in range(0, len(some), together):
        padded = np.pad(some[first : first + together], _BORDER, mode="edge")
        for row in range(0, height, rows):
            part = padded[:, row : row + rows + 1].astype(np.float64)
            yield _patches(part).reshape(-1, WHITENED_PATCH**2 * channels)


def _patches(padded: Any) -> Any:
    """The pixels of each patch `[..., 4 * channels]` of images with one more row and column."""
    xp = jnp if isinstance(padded, jax.Array) else np
    height, width = padded.shape[1] - 1, padded.shape[2] - 1
    return xp.concatenate([padded[:, row : row + height, column : column + width] for row, column in _PLACES], axis=-1)


def _eigen(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns eigenvalues, in no order, and eigenvectors in columns, by Jacobi's cyclic rotations.

    LAPACK's differ in the last bits between machines, and in whole vectors where eigenvalues are equal.
    """
    matrix, vectors = symmetric.copy(), np.eye(len(symmetric))
    for _ in range(_SWEEPS):
        for one, other in itertools.combinations(range(len(matrix)), 2):
            if matrix[one, other] == 0:
                continue
            with np.errstate(over="ignore"):  # of an angle that is none
                cotangent = (matrix[other, other] - matrix[one, one]) / (2 * matrix[one, other])
                tangent = np.copysign(1, cotangent) / (np.abs(cotangent) + np.sqrt(cotangent * cotangent + 1))
            cosine = 1 / np.sqrt(tangent * tangent + 1)
            sine = tangent * cosine
            for rotated in (matrix, matrix.T, vectors):  # columns, rows, columns
                first, second = rotated[:, one].copy(), rotated[:, other].copy()
                rotated[:, one], rotated[:, other] = cosine * first - sine * second, sine * first + cosine * second
            matrix[one, other] = matrix[other, one] = 0.0
    return np.diag(matrix), vectors
