"""Parameters by part, and operations of a pass, of the compared models: counted on the meta device, without weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from latentshift.benchmarks.generation.image_base import ImageBase
from latentshift.benchmarks.generation.operator_kinds import by_kind
from latentshift.benchmarks.generation.peers import build_video_model


@dataclass(frozen=True)
class Count:
    """What one video model has and does.

    Attributes:
        unet: parameters, with temporal layers.
        added: of these, those that the image model's U-Net does not have.
        autoencoder: parameters.
        text_encoder: parameters; of SDXL, of both.
        flops: floating-point operations of matrix products and convolutions in one pass over ``texts`` × F frames; a
            multiplication and an addition are two.
        flops_by_kind: the same by kind of operator (:data:`latentshift.benchmarks.generation.operator_kinds.KINDS`).
    """

    unet: int
    added: int
    autoencoder: int
    text_encoder: int
    flops: int
    flops_by_kind: dict[str, float]

    @property
    def total(self) -> int:
        """Parameters of all parts."""
        return self.unet + self.autoencoder + self.text_encoder


@torch.no_grad()
def count(base: ImageBase, name: str, num_frames: int, texts: int) -> Count:
    """Count one video model.

    Args:
        base: whose width it has.
        name: of :data:`latentshift.benchmarks.generation.settings.VIDEO_MODELS`.
        num_frames: F.
        texts: videos in a pass: 2 with guidance.

    Raises:
        ValueError: if it can't be built like this.
    """
    with torch.device("meta"):
        model = build_video_model(name, base.unet, num_frames)
        latents = torch.empty(texts, *base.latent_shape(num_frames))
        text = base.random_text(texts)
        with FlopCounterMode(display=False) as counter:
            model(latents, torch.tensor(500), text)
    return Count(
        unet=model.num_parameters,
        added=model.num_parameters - _size(base.unet),
        autoencoder=_size(base.vae),
        text_encoder=sum(map(_size, base.text_encoders)),
        flops=counter.get_total_flops(),
        flops_by_kind=by_kind((str(name), flops) for name, flops in counter.get_flop_counts()["Global"].items()),
    )


def _size(part: nn.Module) -> int:
    return sum(value.numel() for value in part.parameters())
