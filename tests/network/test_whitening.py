"""Whitened patches: what their statistics are, worked by hand and by definition, and what a network makes of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from vlga_jax.network.whitening import PatchStatistics, Whitening, patch_statistics

LEAST = 5e-4  # of the pixels' variance, in Jordan 2024


def photos(num_images: int = 40, side: int = 12, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Images whose neighbours are alike, as in photographs, with channels that are, too."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 12.0, (num_images, side, side, channels)) + rng.normal(0.0, 12.0, (num_images, 1, 1, 1))
    values = 128 + np.cumsum(np.cumsum(steps, 1), 2) / 4 + rng.normal(0.0, 4.0, (num_images, side, side, 1))
    return np.clip(values, 0, 255).astype(np.uint8)


def whitened(images: np.ndarray, found: PatchStatistics) -> np.ndarray:
    return np.asarray(Whitening().apply({"batch_stats": found}, jnp.asarray(images, jnp.float32) / 255))


def patches_of(images: np.ndarray) -> np.ndarray:
    """By definition: each pixel, its right, lower and lower right neighbour, in that order; borders repeat."""
    count, height, width, channels = images.shape
    rows = [
        np.concatenate(
            [image[min(row + down, height - 1), min(column + right, width - 1)] for down in (0, 1) for right in (0, 1)]
        )
        for image in images
        for row in range(height)
        for column in range(width)
    ]
    return np.array(rows, np.float64).reshape(count, height, width, 4 * channels) / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_of_its_own_images_has_uncorrelated_components_of_variance_one(channels: int) -> None:
    images = photos(channels=channels)
    flat = whitened(images, patch_statistics(images)).reshape(-1, 4 * channels)
    patches = patches_of(images).reshape(-1, 4 * channels)
    variances = np.linalg.eigvalsh(np.cov(patches.T, bias=True))[::-1]
    expected = variances / (variances + LEAST * patches.var(0).mean())
    assert expected[0] > 0.99 and expected[-1] < 0.95, "the least component is not scaled up all the way"
    np.testing.assert_allclose(np.cov(flat.T, bias=True), np.diag(expected), atol=2e-3)
    np.testing.assert_allclose(flat.mean(0)[0], 0.0, atol=0.02)


def test_whitening_is_its_kernel_times_each_patch_about_the_mean() -> None:
    images, found = photos(3), patch_statistics(photos(seed=1))
    about_mean = patches_of(images) - np.tile(found["mean"], 4)
    expected = about_mean @ found["kernel"].astype(np.float64)
    np.testing.assert_allclose(whitened(images, found), expected, atol=1e-4)
    assert np.ptp(expected) > 5


def test_patch_statistics_of_three_values_worked_by_hand() -> None:
    # Columns alike, rows 0 and 255 in turn: a patch is (0, 0, 1, 1) or (1, 1, 0, 0), and (0, 0, 0, 0) at the last row.
    images = np.zeros((1, 3, 3, 1), np.uint8)
    images[:, 1] = 255
    found = patch_statistics(images)
    # Patches: rows (0,0,1,1), (1,1,0,0), (0,0,0,0); each pixel's mean 1/3, variance 2/9, covariance of rows -1/9.
    np.testing.assert_allclose(found["mean"], [1 / 3], rtol=1e-6)
    least = LEAST * 2 / 9
    # Components (1, 1, -1, -1) / 2 with variance 2 (2/9 + 1/9) and (1, 1, 1, 1) / 2 with 2 (2/9 - 1/9).
    first, second = (found["kernel"][:, place] for place in (0, 1))
    np.testing.assert_allclose(np.abs(first), 0.5 / np.sqrt(2 / 3 + least), rtol=1e-5)
    assert (np.sign(first) == np.sign(first[0]) * np.array([1, 1, -1, -1])).all()
    np.testing.assert_allclose(second, 0.5 / np.sqrt(2 / 9 + least), rtol=1e-5)


def test_patch_statistics_of_images_in_any_order_are_equal_and_of_either_half_differ() -> None:
    images = photos()
    one, other, half = patch_statistics(images), patch_statistics(images[::-1]), patch_statistics(images[:20])
    for name in ("kernel", "mean"):
        assert one[name].tobytes() == other[name].tobytes() and one[name].dtype == np.float32
        assert one[name].tobytes() != half[name].tobytes()


def test_patch_statistics_of_many_images_are_of_evenly_spaced_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos()
    monkeypatch.setattr("vlga_jax.network.whitening._NUM_PATCHES", 10 * 12 * 12)
    found = patch_statistics(images)
    monkeypatch.undo()
    np.testing.assert_array_equal(found["kernel"], patch_statistics(images[::4])["kernel"])


@pytest.mark.parametrize("shape", [(4, 6, 6, 3), (2, 1, 5, 1), (1, 1, 1, 3)])
def test_patch_statistics_of_images_without_contrast_scale_nothing_up(shape: tuple[int, ...]) -> None:
    for value in range(256):
        images = np.full(shape, value, np.uint8)
        found = patch_statistics(images)
        np.testing.assert_array_equal(found["kernel"], np.eye(4 * shape[-1]))
        if value % 50 == 7:
            np.testing.assert_allclose(whitened(images, found), 0.0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_patch_statistics_are_those_of_lapack_but_for_rounding(channels: int) -> None:
    images = photos(channels=channels)
    found = patch_statistics(images)
    flat = patches_of(images).reshape(-1, 4 * channels)
    variances, components = np.linalg.eigh(np.cov(flat.T, bias=True))
    expected = components / np.sqrt(variances + LEAST * flat.var(0).mean())
    for own, lapack in zip(found["kernel"].T, expected[:, ::-1].T, strict=True):
        assert own[np.abs(own).argmax()] > 0
        np.testing.assert_allclose(own, lapack * np.sign(lapack @ own), rtol=2e-4, atol=2e-4 * np.abs(own).max())


def test_patch_statistics_of_grey_images_stored_in_three_channels_whiten_four_components() -> None:
    grey = photos(channels=1)
    flat = whitened(np.repeat(grey, 3, axis=-1), patch_statistics(np.repeat(grey, 3, axis=-1)))
    variances = flat.reshape(-1, 12).var(0)
    assert (variances[:4] > 0.5).all() and (variances[4:] < 1e-6).all()


@pytest.mark.parametrize("at_once", [5, 40, 12 * 12, 500])
def test_patch_statistics_taken_in_parts_have_the_same_bits(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(7)
    whole = patch_statistics(images)
    monkeypatch.setattr("vlga_jax.network.whitening._PATCHES_AT_ONCE", at_once)
    for name, leaf in patch_statistics(images).items():
        assert leaf.tobytes() == whole[name].tobytes()


def test_patch_statistics_of_a_dead_channel_leave_it_small() -> None:
    images = photos()
    images[..., 2] = 0
    found = patch_statistics(images)
    flat = whitened(images, found)
    assert np.isfinite(flat).all() and np.abs(flat).max() < 50
    assert (np.abs(flat) < 1e-3).all((0, 1, 2)).sum() == 4, "four components of the dead channel, no contrast"
