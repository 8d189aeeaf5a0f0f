"""What comes of reading a file: a clip, or what the file is.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_PIXELS = 36_000_000  # of a frame; a little more than 8K: one such is 100 MB in RGB


@dataclass(frozen=True)
class Clip:
    """Frames and when they are shown.

    Attributes:
        frames: uint8 RGB (F, H, W, 3).
        times: (F,) float64, seconds from the video's beginning: when the frame that was taken appears, rising; 0 for
            an image.
        short: whether the video was shorter than the window, and its last frame was held or the window shortened.
    """

    frames: np.ndarray
    times: np.ndarray
    short: bool = False


@dataclass(frozen=True)
class Probe:
    """What a file is, as measured.

    Attributes:
        start: when its first frame is shown, in seconds of its own clock.
        end: when its last frame has been shown.
        fps: frames a second on average; 0 for an image.
        height: as it is seen, in pixels: upright, and with pixels made square.
        width: likewise.
        codec: its name, e.g. ``"h264"``.
    """

    start: float
    end: float
    fps: float
    height: int
    width: int
    codec: str

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 for an image."""
        return self.end - self.start
