"""One clip out of one row, whatever the row is: a video, an image, or a sprite that is drawn when it is asked for."""

from __future__ import annotations

import numpy as np

from latentshift.data.footage.clip import Clip, Probe
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.image_file import probe_image, read_image
from latentshift.data.footage.sprite_clip import is_drawn, probe_drawn, read_drawn
from latentshift.data.footage.video_file import probe_video, read_video
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row

IMPORTS = ("av", "PIL.Image")  # what reading imports when it is first used


def probe(row: Row) -> Probe:
    """What a row is, as measured.

    Raises:
        Rejected: for what can't be used, whatever the window.
    """
    if is_drawn(row):
        return probe_drawn(row)
    return probe_image(row) if row.is_image else probe_video(row)


def read_clip(row: Row, window: Window, framing: Framing, rng: np.random.Generator, only: int | None = None) -> Clip:
    """The clip that a window takes out of a row, or one frame of it.

    Args:
        row: a video, or an image where the window takes one frame; outside its ``start`` and ``end`` there is nothing.
        window: how many frames, over how long, from where.
        framing: their shape.
        rng: the draws of this clip in this epoch.
        only: number of the one frame of the window to read, 0 … F - 1; an image has one frame anyway.

    Raises:
        Rejected: for a row that gives no such clip; the reason says why.
    """
    cut = framing.draw(rng)
    if is_drawn(row):
        return read_drawn(row, window, cut, rng, only)
    if row.is_image:
        return read_image(row, 1 if only is not None else window.frames, cut)
    return read_video(row, window, cut, rng, only)
