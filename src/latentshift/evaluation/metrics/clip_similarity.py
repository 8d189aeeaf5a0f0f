"""CLIPSIM and the consistency of frames, from CLIP embeddings.

CLIPSIM: Wu et al. 2021, GODIVA, arXiv 2104.14806. Legend of shapes: F frames, D features of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from latentshift.evaluation.metrics.kernel import unit_norm


def clip_similarity(frames: np.ndarray, text: np.ndarray) -> float:
    """CLIPSIM of one video: the mean over its frames of the cosine between frame and text, -1 … 1.

    The raw cosine: not times 100, not cut at zero. CLIPSIM of a set is the mean over videos of this
    (:func:`.video_means.mean_over_videos`), each video with equal weight however many frames it has.

    Args:
        frames: embeddings of the frames, floating (F, D).
        text: embedding of the prompt, floating (D,).

    Raises:
        ValueError: for other shapes, values that are not finite, or an embedding of norm 0.
    """
    if text.ndim != 1 or frames.ndim != 2 or frames.shape[1] != len(text):
        raise ValueError(f"embeddings have the shapes (F, D) and (D,), not {frames.shape} and {text.shape}")
    return float((unit_norm(frames) @ unit_norm(text[None])[0]).mean())


@dataclass(frozen=True)
class FrameConsistency:
    """How alike neighbouring frames of a video are, never without how much they move: a still video is consistent.

    Attributes:
        consistency: mean over neighbouring frames of the cosine between their embeddings, -1 … 1.
        motion: mean over neighbouring frames, pixels and channels of the absolute difference, in levels 0 … 255.
        frames: of the video.
    """

    consistency: float
    motion: float
    frames: int


def frame_consistency(frames: np.ndarray, video: np.ndarray) -> FrameConsistency:
    """Frame-to-frame consistency and amount of motion of one video.

    Args:
        frames: embeddings of the frames, floating (F, D), F >= 2.
        video: the same frames, uint8 (F, H, W, C).

    Raises:
        ValueError: for other shapes or dtypes, fewer than 2 frames, or an embedding of norm 0.
    """
    if video.dtype != np.uint8 or video.ndim != 4 or len(video) != len(frames):
        raise ValueError(
            "a video is uint8 (F, H, W, C) with one embedding a frame, "
            f"not {video.dtype} {video.shape} with {len(frames)}"
        )
    if len(frames) < 2:
        raise ValueError("the consistency of frames needs at least 2 frames")
    unit = unit_norm(frames)
    apart = [float(np.abs(b.astype(np.int16) - a).mean()) for a, b in pairwise(video)]
    return FrameConsistency(float((unit[:-1] * unit[1:]).sum(1).mean()), float(np.mean(apart)), len(video))
