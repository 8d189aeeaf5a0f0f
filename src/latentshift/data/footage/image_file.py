"""Read an image as a clip of one frame: upright, RGB, resized and cropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentshift.data.footage.clip import MAX_PIXELS, Clip, Probe
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected, require_file
from latentshift.video.cut import Cut
from latentshift.video.metadata import reason

if TYPE_CHECKING:
    from PIL import Image

_MAX_BYTES = 2**30


def probe_image(row: Row) -> Probe:
    """Measure the properties of an image.

    Raises:
        Rejected: if it can't be used.
    """
    with _picture(row) as image:
        return Probe(0.0, 0.0, 0.0, image.height, image.width, str(image.format).lower())


def read_image(row: Row, num_frames: int, cut: Cut | None) -> Clip:
    """Read an image as a clip; without a cut at its own size.

    Raises:
        Rejected: if it can't be read, or ``num_frames`` is above 1.
    """
    if num_frames > 1:
        raise Rejected("too-short", f"it is an image, and a clip takes {num_frames} frames")
    with _picture(row) as image:
        return Clip(resize_picture(image, cut)[None], np.zeros(1))


@contextmanager
def _picture(row: Row) -> Iterator[Image.Image]:
    """Open an image, upright; errors become :class:`Rejected`."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    require_file(row.file)
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked below
    try:
        with Image.open(_bytes_of(row)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Rejected("too-large", f"it is {image.width}x{image.height} pixels")
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise Rejected("animated", f"it is an image of {count} frames")
            upright = ImageOps.exif_transpose(image)
            upright.load()
            upright.format = image.format
    except (Rejected, MemoryError):
        raise
    except UnidentifiedImageError:
        raise Rejected("damaged", "it is no image of a known kind") from None
    except Exception as error:  # decoders of broken files raise nearly anything
        raise Rejected("damaged", f"it can't be read as an image: {reason(error)}") from error
    yield upright


def _bytes_of(row: Row) -> Path | BytesIO:
    if row.offset is None or row.size is None:
        return Path(row.file)
    with open(row.file, "rb") as file:
        file.seek(row.offset)
        return BytesIO(file.read(min(row.size, _MAX_BYTES)))


def resize_picture(image: Image.Image, cut: Cut | None) -> np.ndarray:
    """A picture as a frame, uint8 RGB (height, width, 3): resized with antialiasing, and cropped; None: as it is.

    Raises:
        Rejected: if it is transparent somewhere, or of a mode without colours.
    """
    from PIL import Image

    with_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if with_alpha and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise Rejected("transparent", "parts of it are transparent")
    if image.mode.startswith(("I", "F")):
        raise Rejected("damaged", f"its pixels are of the kind {image.mode}, which has no colours")
    if cut is None:
        return np.array(image.convert("RGB"))
    height, width = cut.scaled(image.height, image.width)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(cut.cut(np.asarray(resized)))
