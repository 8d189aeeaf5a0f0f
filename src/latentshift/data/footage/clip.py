"""The result of reading a file: a clip, or its properties.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_PIXELS = 36_000_000  # of a frame; a little more than 8K: one such is 100 MB in RGB


@dataclass(frozen=True)
class Clip:
    """Frames with presentation times.

    Attributes:
        frames: uint8 RGB (F, H, W, 3).
        times: (F,) float64, presentation time of each frame in seconds from the start of the video, increasing; 0 for
            an image.
        short: whether the video is shorter than the window, so that its last frame is held or the window shortened.
    """

    frames: np.ndarray
    times: np.ndarray
    short: bool = False


@dataclass(frozen=True)
class Probe:
    """Measured properties of a file.

    Attributes:
        start: presentation time of the first frame, in seconds of the file's clock.
        end: end of the last frame, likewise.
        fps: frames a second on average; 0 for an image.
        height: displayed height in pixels: after rotation, with square pixels.
        width: displayed width, likewise.
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
        """Duration; 0 for an image."""
        return self.end - self.start
