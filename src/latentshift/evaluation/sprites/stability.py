"""How steady the thing's colour is over a sprites clip: colour drift and frame flicker. Neither needs a label.

Each frame is segmented on its own, in the reader's way (:func:`latentshift.evaluation.sprites.tracks.segment`), so that
a colour that changes does not change which pixels are the thing. A frame's colour is the mean over the thing's core:
the pixels whose distance to the outline is more than one pixel and more than half of the largest such distance. No
anti-aliased pixel is among them, so a thing of one colour has exactly that colour in every frame, however it moves.

Flicker is that of the mean colour, and not of single pixels: a pixel that stays in the core for three frames is near
the outline in some of them, where a decoder blurs, so that motion counts as flicker; and a small, fast thing leaves
none.

Knows nothing of captions, models or files. Legend of shapes: F frames, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from latentshift.evaluation.sprites.tracks import check_video, segment

CORE_DEPTH = 0.5  # of the largest distance to the outline: how far from the outline the core begins
LEAST_DEPTH = 1.0  # the same in pixels: nearer ones may be anti-aliased
LEAST_SEEN = 0.75  # share of the frames in which the thing has to be seen, as for its name


@dataclass(frozen=True)
class Stability:
    """What was measured in one clip, in levels of RGB distance (0 … 255·√3); None where there is nothing to measure."""

    colour_drift: float | None
    frame_flicker: float | None


def measure_stability(video: np.ndarray) -> Stability:
    r"""Colour drift and frame flicker of one clip.

    With c_f the mean colour (R, G, B) of the thing's core in frame f, and c̄ its mean over the frames:

    - colour drift = √( mean over f of ‖c_f - c̄‖² ). A ramp of total change Δ over F evenly spaced frames has
      ‖Δ‖ √((F + 1) / (12 (F - 1))), an alternation by ±d has ‖d‖.
    - frame flicker = mean over f of ‖c_{f-1} - 2 c_f + c_{f+1}‖. A ramp has 0, an alternation by ±d has 4 ‖d‖.

    Only frames with exactly one thing count; the second difference takes three such frames in a row.

    Args:
        video: uint8 RGB (F, S, S, 3), S >= 32.

    Returns:
        Both None if the thing is seen in fewer than ``LEAST_SEEN`` of the frames, or in fewer than two; the flicker
        None if no three frames in a row show it.

    Raises:
        ValueError: for another dtype or shape.
    """
    colours = core_colours(video)
    seen = ~np.isnan(colours[:, 0])
    if np.mean(seen) < LEAST_SEEN or np.count_nonzero(seen) < 2:
        return Stability(None, None)
    off = colours[seen] - colours[seen].mean(axis=0)
    drift = float(np.sqrt((off**2).sum(axis=1).mean()))
    bend = np.linalg.norm(colours[:-2] - 2 * colours[1:-1] + colours[2:], axis=1)
    bend = bend[~np.isnan(bend)]
    return Stability(drift, float(bend.mean()) if len(bend) else None)


def core_colours(video: np.ndarray) -> np.ndarray:
    """Mean colour of the thing's core in each frame: (F, 3) levels, NaN in frames without exactly one thing.

    Args:
        video: uint8 RGB (F, S, S, 3), S >= 32.

    Raises:
        ValueError: for another dtype or shape.
    """
    check_video(video)
    colours = np.full((len(video), 3), np.nan)
    for index, frame in enumerate(video):
        segments = segment(frame[None])
        # The frame's border counts as an outline: what lies behind it is not known.
        inside = np.pad(segments.masks[0] > 0.5, 1)
        depth = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        core = depth > max(LEAST_DEPTH, CORE_DEPTH * depth.max())
        if segments.seen[0] and core.any():
            colours[index] = frame[core].mean(axis=0)
    return colours
