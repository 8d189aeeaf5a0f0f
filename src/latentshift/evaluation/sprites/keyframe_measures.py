"""How far a keyframe reaches in a sprites clip: the colour and the place of the thing beside it, and its motion.

Knows no pipeline. Legend of shapes: F frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentshift.data.sprites import Sprite
from latentshift.evaluation.sprites.palette import nearest_colours
from latentshift.evaluation.sprites.reader import read_clip
from latentshift.evaluation.sprites.stability import core_colours
from latentshift.evaluation.sprites.tracks import track

DISTANCES = (1, 2, 4, 8)  # frames to the nearest keyframe, at which the colour is compared


def measure_keyframes(
    video: np.ndarray, truth: np.ndarray, keyframes: Sequence[int], sprite: Sprite, colour: str
) -> dict[str, float]:
    """What keyframes did to a clip.

    Args:
        video: uint8 RGB (F, S, S, 3), made.
        truth: the same shape: the clip of the world that keyframes were taken from.
        keyframes: their numbers, 0 … F - 1; of a clip without any, those that it could have had.
        sprite: that was asked for.
        colour: of the thing in the keyframes, a word.

    Returns:
        By name, without those that can't be measured:

        - ``place_beside``, ``place``: mean distance of the thing's centre to where it is in ``truth``, in sides of the
          frame: in the frames next to keyframes, and in all that are none.
        - ``colour_1`` …: distance of the thing's mean colour to that in the nearest keyframe, in levels of RGB
          distance, over frames so far from it.
        - ``same_colour``: share of the frames that are no keyframes in which the thing's mean colour is nearest to
          ``colour`` of all that the world has; frames without exactly one thing count as another colour.
        - ``motion``, ``thing``: 1 if the reader reads them as asked for, else 0.
    """
    away = np.abs(np.arange(len(video))[:, None] - np.asarray(keyframes)).min(axis=1)
    nearest = np.asarray(keyframes)[np.abs(np.arange(len(video))[:, None] - np.asarray(keyframes)).argmin(axis=1)]
    read, true = read_clip(video), track(truth)
    assert read.tracks is not None
    off = np.hypot(read.tracks.x - true.x, read.tracks.y - true.y)
    colours = core_colours(video)
    differences = np.linalg.norm(colours - colours[nearest], axis=1)
    named = np.array([each == colour for each in nearest_colours(colours)])
    values = {
        "place_beside": _mean(off[away == 1]),
        "place": _mean(off[away > 0]),
        **{f"colour_{each}": _mean(differences[away == each]) for each in DISTANCES},
        "same_colour": float(named[away > 0].mean()),
        "motion": float(read.motion == sprite.motion),
        "thing": float(read.thing == sprite.thing),
    }
    return {name: value for name, value in values.items() if value is not None}


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
