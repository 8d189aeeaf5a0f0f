"""How a picture of any size becomes a frame of the wanted one: resized with antialiasing, then cropped.

Pure arithmetic: what to resize to and what to cut out. Who decodes does both in one go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Crop = Literal["centre", "random"]
CROPS: tuple[Crop, ...] = get_args(Crop)


@dataclass(frozen=True)
class Framing:
    """The shape of the frames.

    Attributes:
        height: of the frames in pixels.
        width: likewise.
        crop: ``"centre"``, or ``"random"``, one place a clip.
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
        """One clip's place and mirroring; reads the same number of draws whatever the settings."""
        across, down, mirror = rng.random(3)
        centre = self.crop == "centre"
        return Cut(
            self.height, self.width, 0.5 if centre else down, 0.5 if centre else across, self.flip and mirror < 0.5
        )


@dataclass(frozen=True)
class Cut:
    """One clip's framing: ``down`` and ``across`` in [0, 1] say where in the room that is left the crop lies."""

    height: int
    width: int
    down: float = 0.5
    across: float = 0.5
    mirrored: bool = False

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """What a picture as it is seen, height × width, is resized to: the smallest that covers the frame."""
        scale = max(self.height / height, self.width / width)
        return max(round(height * scale), self.height), max(round(width * scale), self.width)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The frame (height, width, 3) out of a resized picture (H, W, 3)."""
        top = round(self.down * (picture.shape[0] - self.height))
        left = round(self.across * (picture.shape[1] - self.width))
        frame = picture[top : top + self.height, left : left + self.width]
        return frame[:, ::-1] if self.mirrored else frame
