"""Image files as arrays, by Pillow: what `folder` learns from, and what a trained network is asked."""

from pathlib import Path
from typing import Any

import numpy as np

from vlga_jax.checks import InputError

_MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name
_ORIENTATION = 0x0112  # EXIF's tag


def read_image(path: str | Path, size: tuple[int, int] | None, num_channels: int = 3) -> np.ndarray:
    """Returns the pixels of an image file, uint8 `[height, width, channels]`.

    It is turned upright as its EXIF data say, what is transparent becomes white, and its middle, cut to the shape of
    `size`, is resized to it.

    Args:
      path: of a format that Pillow reads; of an animation the first frame.
      size: height and width, pixels; None leaves them as they are.
      num_channels: 3, or 1 for shades of grey.

    Raises:
      InputError: Pillow is not installed, the file cannot be read, or it is grey with more than 8 bits or floats.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise InputError("image", str(path), "needs Pillow; pip install pillow") from error
    if num_channels not in _MODES:
        raise InputError("image", str(path), f"cannot be read as {num_channels} channels; give an array of pixels")
    mode = _MODES[num_channels]
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError("image", str(path), f"has more than 8 bits a channel ({image.mode}); convert it to 8")
            orientation = image.getexif().get(_ORIENTATION)
            if size is not None:
                image.draft(mode, (2 * size[1], 2 * size[0]))  # a JPEG need not be decoded larger
            upright = _opaque(_turned(image, orientation)).convert(mode)
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError("image", str(path), "no such file") from error
    except Exception as error:  # each format has a decoder of its own, and each fails in its own ways
        raise InputError("image", str(path), f"cannot be read ({error}); repair or remove it") from error
    if size is not None:
        upright = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(upright).reshape(upright.height, upright.width, num_channels)


def _turned(image: Any, orientation: object) -> Any:
    """The image upright; by hand, as `ImageOps.exif_transpose` writes all EXIF data anew and fails where one is odd."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _opaque(image: Any) -> Any:
    """The image on white where it is transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
