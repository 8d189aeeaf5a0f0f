"""Read a picture from a file that a user names: upright, in RGB, one frame, without transparency."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.files import missing_file
from latentshift.video.metadata import reason

if TYPE_CHECKING:
    from PIL import Image

ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
RGB_LIKE_MODES = ("1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB")  # that convert("RGB") keeps to the level


def has_alpha(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel, or a colour of its palette that is transparent."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def read_picture(path: str | os.PathLike[str], size: tuple[int, int] | None = None, wanted: str = "") -> Image.Image:
    """Read a picture.

    Args:
        path: of the file.
        size: (height, width) in pixels that it is to have; None: any. Checked before its pixels are decoded.
        wanted: what has that size, for the message, as ``"the video's frames"``.

    Returns:
        An RGB image, turned upright as its EXIF data say.

    Raises:
        ValueError: if it is missing, no picture, animated, transparent, of a mode with more than 8 bits, or of another
            size.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not Path(path).is_file():
        raise ValueError(missing_file(Path(path)))
    try:
        with Image.open(path) as image:
            _check(image, path, size, wanted)
            upright = ImageOps.exif_transpose(image)
            upright.load()
    except (_UnfitError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture of a known kind: give a .png, .jpg or .webp") from None
    except Exception as error:  # decoders of broken files raise nearly anything
        raise ValueError(f"{path} can't be read as a picture: {reason(error)}") from None
    return upright.convert("RGB")


class _UnfitError(ValueError):
    """A picture that can be read, and can't be used."""


def _check(image: Image.Image, path: object, size: tuple[int, int] | None, wanted: str) -> None:
    if (count := getattr(image, "n_frames", 1)) > 1:
        raise _UnfitError(f"{path} is an animation of {count} frames: give a picture of one")
    if has_alpha(image):
        raise _UnfitError(f"{path} has an alpha channel: save it without transparency, in RGB")
    if image.mode != "RGB" and image.mode not in RGB_LIKE_MODES:
        raise _UnfitError(f"{path} has pixels of the mode {image.mode}: save it in RGB, with 8 bits a colour")
    turned = image.getexif().get(0x0112, 1) >= 5  # EXIF's orientation: by a quarter
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    if size is not None and (height, width) != size:
        raise _UnfitError(f"{path} is {width}x{height} pixels, and {wanted} are {size[1]}x{size[0]}: resize it")
