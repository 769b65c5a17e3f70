"""Random changes of training images, on the device: what is in them stays the same."""

import jax
import jax.numpy as jnp

from vlga_jax.shapes import Array, PRNGKeyArray

_GREY = 128  # of uint8


def augment(key: PRNGKeyArray, images: Array, *, flip: bool, crop_padding: int, cutout: int = 0) -> Array:
    """Returns the images, each mirrored by chance, cropped at random from its reflected border, a square made grey.

    The square is cutout (DeVries & Taylor 2017, arXiv 1708.04552): its centre lies anywhere in the image, so that parts
    of it may lie outside.

    Args:
      key: consumed.
      images: `[batch, height, width, channels]`; any dtype without cutout, uint8 with it.
      flip: whether to mirror left to right, with chance 1/2 each.
      crop_padding: pixels; the shift lies in [-crop_padding, crop_padding] each way.
      cutout: the square's side, pixels; 0 is none.
    """
    if not (flip or crop_padding or cutout):
        return images
    key_flip, key_crop, key_cutout = jax.random.split(key, 3)
    batch, height, width, channels = images.shape
    if flip:
        mirrored = jax.random.bernoulli(key_flip, 0.5, (batch, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if crop_padding:
        edge = (crop_padding, crop_padding)
        padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)), mode="reflect")
        corners = jax.random.randint(key_crop, (batch, 2), 0, 2 * crop_padding + 1)

        def crop(image: Array, corner: Array) -> Array:
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

        images = jax.vmap(crop)(padded, corners)
    if cutout:
        key_row, key_column = jax.random.split(key_cutout)
        rows = _within(cutout, jax.random.randint(key_row, (batch, 1), 0, height), height)
        columns = _within(cutout, jax.random.randint(key_column, (batch, 1), 0, width), width)
        images = jnp.where((rows[:, :, None] & columns[:, None])[..., None], jnp.uint8(_GREY), images)
    return images


def _within(side: int, centre: Array, length: int) -> Array:
    """Whether a place lies in the span of `side` around each centre `[batch, 1]`; bool `[batch, length]`."""
    places = jnp.arange(length)[None]
    return (places >= centre - side // 2) & (places < centre - side // 2 + side)
