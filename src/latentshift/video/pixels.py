"""Pixel values: the one definition of uint8 <-> [-1, 1], PIL images as a clip, and RGB-YUV conversion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


@overload
def to_unit(frames: np.ndarray) -> np.ndarray: ...
@overload
def to_unit(frames: Tensor) -> Tensor: ...
def to_unit(frames: Any) -> Any:
    """uint8 0..255 to float32 in [-1, 1], array to array and tensor to tensor, shape and device as they were.

    Raises:
        TypeError: for anything but uint8.
    """
    if str(frames.dtype) not in ("uint8", "torch.uint8"):
        raise TypeError(f"to_unit takes uint8 values from 0 to 255, not {frames.dtype}")
    return (frames.astype(np.float32) if isinstance(frames, np.ndarray) else frames.float()) / 127.5 - 1


@overload
def to_uint8(x: np.ndarray) -> np.ndarray: ...
@overload
def to_uint8(x: Tensor) -> Tensor: ...
def to_uint8(x: Any) -> Any:
    """Float of any precision in [-1, 1], clipped to that, to the nearest of uint8 0..255; undoes :func:`to_unit`.

    Raises:
        TypeError: for anything but floats.
        ValueError: where a value is NaN or infinite.
    """
    if "float" not in str(x.dtype):
        raise TypeError(f"to_uint8 takes floats from -1 to 1, not {x.dtype}")
    if not (abs(x) < math.inf).all():  # false for NaN too
        raise ValueError("to_uint8 met values that are NaN or infinite, which are no colours")
    if isinstance(x, np.ndarray):
        return ((x.clip(-1, 1).astype(np.float32) + 1) * 127.5).round().astype(np.uint8)
    return ((x.clip(-1, 1).float() + 1) * 127.5).round().byte()


def as_clip(images: Sequence[Image.Image]) -> np.ndarray:
    """The PIL images of one video as a clip: uint8 RGB (F, H, W, 3)."""
    return np.stack([np.asarray(image) for image in images])


def accurate_interpolation() -> int:
    """swscale flags for accurate RGB-YUV conversion; the default darkens by two levels and blurs colours (3 dB)."""
    from av.video.reformatter import Interpolation as Way

    return Way.BICUBIC | Way.ACCURATE_RND | Way.FULL_CHR_H_INT | Way.FULL_CHR_H_INP
