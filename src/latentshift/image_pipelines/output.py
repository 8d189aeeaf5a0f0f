"""Pictures of an image pipeline, regrouped into videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image


@dataclass
class VideoPipelineOutput(BaseOutput):
    """The output of :class:`latentshift.image_pipelines.VideoPipeline`.

    Attributes:
        frames: of B videos with F frames, by ``output_type``: ``"pil"`` a list of B lists of F images; ``"np"``
            (B, F, H, W, 3) and ``"pt"`` (B, F, 3, H, W), both in [0, 1]; ``"latent"`` (B, F, C, h, w).
        nsfw_content_detected: for each video, whether the safety checker found something in any of its frames, all of
            which are black then; None if the pipeline has no checker.
    """

    frames: Any
    nsfw_content_detected: list[bool] | None = None


def regroup(pictures: Any, num_frames: int) -> list[Any]:
    """B·F pictures as B videos, each a list of F images, an array (F, H, W, 3) or a tensor (F, …)."""
    return [pictures[start : start + num_frames] for start in range(0, len(pictures), num_frames)]


def stack(videos: Sequence[Any]) -> Any:
    """B videos as one output: a list, an array or a tensor with B first."""
    if isinstance(videos[0], list):
        return list(videos)
    return torch.stack(list(videos)) if isinstance(videos[0], torch.Tensor) else np.stack(videos)


def blacken(video: Any) -> Any:
    """The same video, with nothing in it."""
    if isinstance(video, list):
        return [Image.new(frame.mode, frame.size) for frame in video]
    return torch.zeros_like(video) if isinstance(video, torch.Tensor) else np.zeros_like(video)
