"""Extractors of a few numbers, for tests of what is made of features: each is a closed form of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class StandIn:
    """An :class:`latentshift.evaluation.extractors.extractor.Extractor`."""

    sha256, verified, resize = "0" * 64, True, "as it is"
    frames: int | None = None
    least_frames = 1

    def __init__(self, name: str, per: Any, output: Any, width: int) -> None:
        self.name, self.per, self.output, self.width = name, per, output, width

    def rows(self, video: Tensor) -> Tensor:
        """Means of ``width`` bands of each frame, (F, D), of (F, H, W, 3) in 0 … 1."""
        bands = video.flatten(1).tensor_split(self.width, dim=1)
        return torch.stack([band.mean(1) for band in bands], dim=1)

    def __call__(self, videos: Tensor) -> np.ndarray:
        rows = torch.stack([self.rows(video.double() / 255) for video in videos])
        if self.per == "clip":
            rows = rows.mean(1, keepdim=True)
        if self.output == "probabilities":
            rows = torch.softmax(8 * rows, -1)
        return rows.float().numpy()


class StandInClip(StandIn):
    """Embeds prompts too: a vector of the prompt's letters."""

    def __init__(self, width: int = 4) -> None:
        super().__init__("clip", "frame", "embeddings", width)

    def rows(self, video: Tensor) -> Tensor:
        return super().rows(video) + 0.01  # no embedding of a black frame has norm 0

    def text(self, prompts: Sequence[str]) -> np.ndarray:
        return np.stack(
            [np.bincount([ord(letter) % self.width for letter in each], minlength=self.width) for each in prompts]
        ).astype(np.float32)


def stand_ins() -> dict[str, Any]:
    """One of each kind, under the names of the field's."""
    return {
        "inception-2015": StandIn("inception-2015", "frame", "features", 5),
        "i3d": StandIn("i3d", "clip", "features", 3),
        "c3d": StandIn("c3d", "clip", "probabilities", 4),
        "clip": StandInClip(),
    }


def noise_video(seed: int, frames: int = 4, side: int = 8) -> np.ndarray:
    """uint8 (frames, side, side, 3), bright by its seed, so that videos differ."""
    rng = np.random.default_rng(seed)
    return (rng.random((frames, side, side, 3)) * rng.integers(20, 255)).astype(np.uint8)
