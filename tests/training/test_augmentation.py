"""Augmentation: each image changes as it should, by chance as it should, and nothing else does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vlga_jax.training.augmentation import augment

PHOTOS = np.random.default_rng(4).integers(0, 128, (300, 8, 9, 3)).astype(np.uint8)  # none as grey as a cutout
IMAGES = np.random.default_rng(3).permutation(2000 * 4 * 7).reshape(2000, 4, 7, 1).astype(np.int32)


def test_augment_that_flips_mirrors_half_of_the_images() -> None:
    out = np.asarray(augment(jax.random.key(0), jnp.asarray(IMAGES), flip=True, crop_padding=0))
    mirrored = (out == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (out == IMAGES).all(axis=(1, 2, 3))).all()
    assert abs(mirrored.mean() - 0.5) < 4 * (0.25 / 2000) ** 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_augment_that_crops_takes_each_window_of_the_reflected_border_alike(flip: bool) -> None:
    out = np.asarray(augment(jax.random.key(1), jnp.asarray(IMAGES), flip=flip, crop_padding=2))
    sources = [IMAGES, IMAGES[:, :, ::-1]] if flip else [IMAGES]
    counts = np.zeros((len(sources), 5, 5))
    for place, source in enumerate(sources):
        padded = np.pad(source, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
        for row in range(5):
            for column in range(5):
                window = padded[:, row : row + 4, column : column + 7]
                counts[place, row, column] = (out == window).all(axis=(1, 2, 3)).sum()
    assert counts.sum() == 2000  # every output is exactly one window of its own image
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4


def test_augment_under_jit_keeps_bytes_and_depends_on_the_key_alone() -> None:
    images = jnp.asarray(PHOTOS)
    jitted = jax.jit(augment, static_argnames=("flip", "crop_padding"))
    one, same, other = (jitted(jax.random.key(seed), images, flip=True, crop_padding=1) for seed in (0, 0, 1))
    assert one.dtype == jnp.uint8
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, augment(jax.random.key(0), images, flip=True, crop_padding=1))
    assert (one != other).any()


def test_augment_of_nothing_returns_the_images() -> None:
    images = jnp.asarray(PHOTOS)
    np.testing.assert_array_equal(augment(jax.random.key(0), images, flip=False, crop_padding=0), images)


@pytest.mark.parametrize("side", [1, 4, 5])
def test_augment_with_cutout_makes_one_square_of_each_image_grey(side: int) -> None:
    out = np.asarray(augment(jax.random.key(2), jnp.asarray(PHOTOS), flip=False, crop_padding=0, cutout=side))
    assert out.dtype == np.uint8
    grey = (out == 128).all(axis=-1)
    np.testing.assert_array_equal(out[~grey], PHOTOS[~grey])
    rows, columns = grey.any(axis=2), grey.any(axis=1)
    np.testing.assert_array_equal(grey, rows[:, :, None] & columns[:, None, :])  # a rectangle, where both are spans
    for places, length in ((rows, 8), (columns, 9)):
        assert (np.diff(places, axis=1, prepend=False, append=False).sum(axis=1) == 2).all()
        at_the_edge = places[:, 0] | places[:, -1]
        assert (places.sum(axis=1)[~at_the_edge] == side).all()
        assert (places.sum(axis=1) <= side).all()
        centres = np.where(places[:, 0], places.sum(axis=1) - side + side // 2, places.argmax(axis=1) + side // 2)
        assert stats.chisquare(np.bincount(centres, minlength=length)).pvalue > 1e-4


def test_augment_with_cutout_flips_and_crops_as_without() -> None:
    images, key = jnp.asarray(PHOTOS), jax.random.key(3)
    without = np.asarray(augment(key, images, flip=True, crop_padding=2))
    out = np.asarray(augment(key, images, flip=True, crop_padding=2, cutout=3))
    grey = (out == 128).all(axis=-1)
    np.testing.assert_array_equal(out[~grey], without[~grey])
