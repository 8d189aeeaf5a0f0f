"""What a model tuned on one sprites clip makes of a prompt: the clip's motion, and the looks that the prompt asks for.

Knows no pipeline. Legend of shapes: F frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from latentshift.evaluation.sprites.reader import LEAST_NAMED, read_clip
from latentshift.evaluation.sprites.tracks import track


def measure_one_clip(video: np.ndarray, clip: np.ndarray, looks: Mapping[str, str]) -> dict[str, float]:
    """Where the thing of a video is, beside the clip's, and what it looks like.

    Args:
        video: uint8 RGB (F, S, S, 3), made.
        clip: the same shape: what the model was tuned on.
        looks: that were asked for, as :func:`latentshift.evaluation.sprites.prompt_looks.looks_of` gives them.

    Returns:
        By name:

        - ``place_error``: mean distance of the thing's centre to where it is in the clip, in sides of the frame, over
          frames that show one thing; not there if fewer than three quarters do.
        - ``path_error``: likewise with each track moved so that its mean is 0: the motion alone, wherever it is.
        - ``seen``: share of the frames that show one thing.
        - ``colour``, ``thing``, ``background``: 1 if the reader reads them as asked for, else 0; ``looks``: all three.
    """
    read, true = read_clip(video), track(clip)
    assert read.tracks is not None
    made, wanted = (np.stack([each.x, each.y]) for each in (read.tracks, true))
    both = read.tracks.seen & true.seen
    values = {"seen": float(np.mean(read.tracks.seen))}
    if both.mean() >= LEAST_NAMED:
        made, wanted = made[:, both], wanted[:, both]
        values["place_error"] = _distance(made, wanted)
        values["path_error"] = _distance(made - made.mean(1, keepdims=True), wanted - wanted.mean(1, keepdims=True))
    right = {kind: getattr(read, kind) == word for kind, word in looks.items()}
    return values | {kind: float(each) for kind, each in right.items()} | {"looks": float(all(right.values()))}


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.hypot(*(one - other)).mean())
