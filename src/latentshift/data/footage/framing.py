"""Size and crop of the frames of clips: what is drawn for each. The decoders apply it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from latentshift.video.cut import Cut

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
