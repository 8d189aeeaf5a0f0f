"""Pictures of an image pipeline, regrouped into videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn

from latentshift.models.decoded_frames import check_finite


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


@contextmanager
def finite_when_decoded(vae: Any) -> Iterator[None]:
    """Inside, an autoencoder that decodes what is not finite, or makes it so, raises a NotFiniteError: as pictures such
    values are black, and nothing would show it."""
    decoder = getattr(vae, "decoder", None)
    if not isinstance(decoder, nn.Module):
        yield
        return

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        check_finite(inputs[0], "U-Net")

    def after(module: nn.Module, inputs: tuple[Any, ...], made: Tensor) -> None:
        check_finite(made, "autoencoder")

    handles = decoder.register_forward_pre_hook(before), decoder.register_forward_hook(after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
