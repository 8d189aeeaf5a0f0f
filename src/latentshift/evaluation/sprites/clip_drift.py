"""How colour and contrast wander over a long sprites clip, and what shows at the seams of its extensions.

Knows no pipeline. Legend of shapes: F frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentshift.data.sprites import Sprite
from latentshift.evaluation.sprites.palette import nearest_colours
from latentshift.evaluation.sprites.reader import read_clip
from latentshift.evaluation.sprites.stability import core_colours
from latentshift.evaluation.sprites.tracks import ground_colour, track

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601


def measure_drift(video: np.ndarray, length: int, stride: int, sprite: Sprite) -> dict[str, float]:
    """The windows of a clip beside its first one, and its seams beside its other frames.

    Window k is of ``length`` frames from k · ``stride`` on: the frames of a call, where a clip went on from its last
    ``length`` - ``stride`` frames.

    Args:
        video: uint8 RGB (F, S, S, 3).
        length: frames of a window, 12 or more for a motion to be read.
        stride: from one window to the next.
        sprite: that was asked for.

    Returns:
        By name, without those that can't be measured:

        - ``colour_k``: distance of the thing's mean colour to that of window 0, in levels of RGB distance.
        - ``ground_k``: likewise of the background.
        - ``contrast_k``: mean standard deviation of a frame's luma, as a multiple of window 0's.
        - ``same_colour_k``: share of frames whose thing's colour is nearest to the one asked for of all in the world.
        - ``seen_k``: share of frames with exactly one thing.
        - ``motion_k``: 1 if the reader reads the motion as asked for, else 0.
        - ``seam_step``, ``inner_step``: mean distance, in sides of the frame, that the thing's centre moves from one
          frame to the next, where windows end, and elsewhere; ``seam_colour``, ``inner_colour``: likewise of its
          colour.
    """
    begins = range(0, len(video) - length + 1, stride)
    colours, tracks = core_colours(video), track(video)
    named = nearest_colours(colours)
    contrasts = (video @ _LUMA).std(axis=(1, 2))
    values: dict[str, float] = {}
    first = slice(0, length)
    for number, begin in enumerate(begins):
        here = slice(begin, begin + length)
        values[f"colour_{number}"] = float(np.linalg.norm(_mean(colours[here]) - _mean(colours[first])))
        values[f"ground_{number}"] = float(np.linalg.norm(ground_colour(video[here]) - ground_colour(video[first])))
        values[f"contrast_{number}"] = float(contrasts[here].mean() / max(contrasts[first].mean(), 1e-6))
        values[f"same_colour_{number}"] = float(np.mean([each == sprite.colour for each in named[here]]))
        values[f"seen_{number}"] = float(np.mean(~np.isnan(colours[here, 0])))
        values[f"motion_{number}"] = float(read_clip(video[here]).motion == sprite.motion)
    steps = np.hypot(np.diff(tracks.x), np.diff(tracks.y))
    changes = np.linalg.norm(np.diff(colours, axis=0), axis=1)
    at_seam = np.zeros(len(video) - 1, bool)
    at_seam[length - 1 :: stride] = True  # from the last frame of a window to the first new one of the next
    for name, series in (("step", steps), ("colour", changes)):
        values[f"seam_{name}"] = float(_mean(series[at_seam]))
        values[f"inner_{name}"] = float(_mean(series[~at_seam]))
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _mean(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Over the first axis, of those that are known; NaN if none is."""
    known = np.asarray(values, dtype=float)
    count = (~np.isnan(known)).sum(axis=0)
    return np.where(count > 0, np.nansum(known, axis=0) / np.maximum(count, 1), np.nan)
