"""Read a clip of a row, which may be a video, an image or a rendered sprite clip."""

from __future__ import annotations

import numpy as np

from latentshift.data.footage.clip import Clip, Probe
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.image_file import probe_image, read_image
from latentshift.data.footage.sprite_clip import is_drawn, probe_drawn, read_drawn
from latentshift.data.footage.video_file import probe_video, read_video
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row

IMPORTS = ("av", "PIL.Image")  # modules that reading imports lazily


def probe(row: Row) -> Probe:
    """Measure the properties of a row.

    Raises:
        Rejected: if it can't be used with any window.
    """
    if is_drawn(row):
        return probe_drawn(row)
    return probe_image(row) if row.is_image else probe_video(row)


def read_clip(row: Row, window: Window, framing: Framing, rng: np.random.Generator, only: int | None = None) -> Clip:
    """The clip of a row in a time window, or one frame of it.

    Args:
        row: a video, or an image if the window has one frame; only the part from ``start`` to ``end`` is used.
        window: number of frames, duration and position.
        framing: size and crop of the frames.
        rng: random stream of this clip in this epoch.
        only: index of a single frame of the window to read, 0 … F - 1; ignored for images.

    Raises:
        Rejected: if the row gives no such clip; the reason says why.
    """
    cut = framing.draw(rng)
    if is_drawn(row):
        return read_drawn(row, window, cut, rng, only)
    if row.is_image:
        return read_image(row, 1 if only is not None else window.frames, cut)
    return read_video(row, window, cut, rng, only)
