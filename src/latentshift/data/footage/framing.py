"""Resizing and cropping of pictures to the frame size.

Pure arithmetic: sizes and crop positions. The decoders apply them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Crop = Literal["centre", "random"]
CROPS: tuple[Crop, ...] = get_args(Crop)


@dataclass(frozen=True)
class Framing:
    """Size, crop and flip of the frames.

    Attributes:
        height: of the frames in pixels.
        width: of the frames in pixels.
        crop: ``"centre"``, or ``"random"``, one position for each clip.
        flip: mirror half of the clips, left to right; off by default, since captions say left and right.
    """

    height: int = 256
    width: int = 256
    crop: Crop = "centre"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.height < 8 or self.width < 8:
            raise ValueError(f"frames are 8 pixels or more on each side, not {self.width}x{self.height}")

    def draw(self, rng: np.random.Generator) -> Cut:
        """Draw the crop and flip of a clip; always uses the same number of random draws."""
        across, down, mirror = rng.random(3)
        centre = self.crop == "centre"
        return Cut(
            self.height, self.width, 0.5 if centre else down, 0.5 if centre else across, self.flip and mirror < 0.5
        )


@dataclass(frozen=True)
class Cut:
    """The crop of one clip: ``down`` and ``across`` in [0, 1] are its position within the free space."""

    height: int
    width: int
    down: float = 0.5
    across: float = 0.5
    mirrored: bool = False

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The size to resize a displayed picture of height × width to: the smallest that covers the frame."""
        scale = max(self.height / height, self.width / width)
        return max(round(height * scale), self.height), max(round(width * scale), self.width)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Crop a resized picture (H, W, 3) to a frame (height, width, 3)."""
        top = round(self.down * (picture.shape[0] - self.height))
        left = round(self.across * (picture.shape[1] - self.width))
        frame = picture[top : top + self.height, left : left + self.width]
        return frame[:, ::-1] if self.mirrored else frame
