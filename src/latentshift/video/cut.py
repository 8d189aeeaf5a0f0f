"""Where a picture is cut to a frame: resized to the smallest size that covers it, then cropped. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """Top and left of the frame in a resized picture of height × width."""
        return round(self.down * (height - self.height)), round(self.across * (width - self.width))

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Crop a resized picture (H, W, 3) to a frame (height, width, 3)."""
        top, left = self.corner(*picture.shape[:2])
        frame = picture[top : top + self.height, left : left + self.width]
        return frame[:, ::-1] if self.mirrored else frame
