"""Read a clip of an animated image (.webp, .png), which FFmpeg does not decode, by the durations of its frames.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentshift.data.footage.clip import MAX_PIXELS
from latentshift.data.footage.image_file import resize_picture
from latentshift.data.footage.window import Window
from latentshift.data.rejected import Rejected
from latentshift.video.cut import Cut
from latentshift.video.metadata import reason

_ROUNDING = 0.1  # of a frame of the clip: durations are whole milliseconds


def is_animation(path: Path) -> bool:
    """Whether a file is an image of several frames; false for what can't be read as an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # reported when it is read
        return False


def read_animation(path: Path, window: Window, start: float, cut: Cut) -> np.ndarray:
    """The frames on screen at a window's moments, uint8 RGB (F, H, W, 3).

    Args:
        path: of an animation.
        window: at ``"first"``.
        start: of the window, in seconds.
        cut: size and crop.

    Raises:
        Rejected: if it is too short, damaged, transparent or too large.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Rejected("too-large", f"its frames are {image.width}x{image.height} pixels")
            durations = []  # ms, known of a frame that was decoded
            for frame in ImageSequence.Iterator(image):
                frame.load()
                durations.append(frame.info.get("duration", 0))
            ends = np.cumsum(durations) / 1000
            moments = window.moments(start, float(ends[-1]), np.random.default_rng(0))
            late = moments + _ROUNDING * window.seconds / window.frames
            shown = np.minimum(np.searchsorted(ends, late, side="right"), len(ends) - 1)
            frames: dict[int, np.ndarray] = {}
            for number in sorted(set(shown.tolist())):
                image.seek(number)
                frames[number] = resize_picture(image, cut)
    except (Rejected, MemoryError):
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise Rejected("damaged", f"it can't be read as an animation: {reason(error)}") from error
    return np.stack([frames[number] for number in shown.tolist()])
