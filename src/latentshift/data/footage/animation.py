"""Read a clip of an animated image (.webp, .png, .gif) by the durations of its frames.

FFmpeg does not decode the first two; a .gif is read here since its times are rounded to hundredths of a second, which
would make moments 1 / fps apart meet some frames twice and others not at all.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentshift.data.footage.clip import MAX_PIXELS
from latentshift.data.footage.image_file import resize_picture
from latentshift.data.footage.timeline import GIF_ROUNDING
from latentshift.data.footage.window import Window
from latentshift.data.rejected import Rejected
from latentshift.video.cut import Cut
from latentshift.video.metadata import reason

if TYPE_CHECKING:
    from PIL import Image

_ROUNDING = 0.1  # of a frame of the clip: durations are whole milliseconds
_SHORTEST, _INSTEAD = 10, 100  # ms: viewers show a frame that says no more than the first for the second


def is_animation(path: Path) -> bool:
    """Whether a file is an image of several frames; false for what can't be read as an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # reported when it is read
        return False


def shown_milliseconds(frame: Image.Image) -> float:
    """How long viewers show a frame of an animation that was just decoded."""
    said: float = frame.info.get("duration", 0)
    return said if said > _SHORTEST else _INSTEAD


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
                durations.append(shown_milliseconds(frame))
            ends = np.cumsum(durations) / 1000
            of_frame = window.seconds / window.frames
            # The last frame may be shown for less: 8 frames a second are 0.12 s each in a .gif of most libraries.
            is_shown = start + window.seconds - of_frame < ends[-1] - _ROUNDING * of_frame
            end = max(float(ends[-1]), start + window.seconds) if is_shown else float(ends[-1])
            moments = window.moments(start, end, np.random.default_rng(0))
            late = moments + max(_ROUNDING * of_frame, GIF_ROUNDING if image.format == "GIF" else 0.0)
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
