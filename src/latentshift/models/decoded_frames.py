"""What a pipeline makes of a video's latents: PIL images, arrays, tensors, or pixels for a file.

Legend of shapes: B videos, F frames, C latent channels, h × w latent pixels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from latentshift.settings import default_chunk
from latentshift.video import to_uint8


class NotFiniteError(ValueError):
    """The model's output is not finite (NaN or infinite)."""


@dataclass
class LatentShiftPipelineOutput(BaseOutput):
    """The output of the pipeline.

    Attributes:
        frames: by ``output_type``: ``"pil"`` a list of B lists of F images; ``"np"`` (B, F, H, W, 3) float32 in [0, 1];
            ``"pt"`` (B, F, 3, H, W) in [0, 1]; ``"latent"`` (B, F, C, h, w) float32, scaled.
    """

    frames: Any


class FrameDecoder:
    """A pipeline's outputs, by its :meth:`decode`."""

    def decode(self, latents: Tensor, decode_chunk_size: int | None = None) -> Tensor:
        """Decode scaled latents (B, F, C, h, w) to frames (B, F, 3, H, W) in [-1, 1], one video at a time.

        Raises:
            NotFiniteError: if the autoencoder's output is not finite.
        """
        raise NotImplementedError

    @torch.no_grad()
    def decode_clip(self, latents: Tensor, decode_chunk_size: int | None = None) -> Iterator[np.ndarray]:
        """Decode one video for a file, a few frames at a time, so that no more of them need be in memory.

        Args:
            latents: scaled, (F, C, h, w), as a call with ``output_type="latent"`` returns them for each video.
            decode_chunk_size: n, frames at a time; None: as :func:`latentshift.settings.default_chunk` says.

        Yields:
            uint8 RGB (n, H, W, 3), the last one with what is left; see :func:`latentshift.video.write_chunks`.

        Raises:
            NotFiniteError: if the autoencoder's output is not finite.
        """
        size = decode_chunk_size or default_chunk(len(latents), latents[0, 0].numel())
        for chunk in latents.split(size):
            yield to_uint8(_channels_last(self.decode(chunk[None]))[0])

    def _frames_of(self, latents: Tensor, output_type: str, decode_chunk_size: int | None = None) -> Any:
        """The frames of a call, by its ``output_type``.

        Raises:
            NotFiniteError: if the latents or the autoencoder's output are not finite.
        """
        check_finite(latents, "U-Net")
        if output_type == "latent":
            return latents
        if output_type == "pil":
            from PIL import Image

            clips = (self.decode_clip(video, decode_chunk_size) for video in latents)
            return [[Image.fromarray(frame) for chunk in clip for frame in chunk] for clip in clips]
        frames = self.decode(latents, decode_chunk_size)
        return frames / 2 + 0.5 if output_type == "pt" else _channels_last(frames) / 2 + 0.5


def check_finite(values: Tensor, part: str) -> None:
    """Raise a NotFiniteError, naming the part of the model, unless all of its output is finite."""
    if not torch.isfinite(values).all():
        raise NotFiniteError(f"the {part} made values that are not finite; try another dtype, or less guidance")


def _channels_last(frames: Tensor) -> np.ndarray:
    """Frames (B, F, 3, H, W) as float32 (B, F, H, W, 3)."""
    return frames.float().cpu().permute(0, 1, 3, 4, 2).numpy()
