"""The parts of a pipeline that are exported: the U-Net, the autoencoder's decoder, and the text encoders together.

Each is a module of tensors alone, traced with ``torch.export``. The numbers of videos and of frames are inputs, or both
are fixed, to one video; the size of frames is always fixed.
Legend of shapes: B videos, F frames of each, M frames, C latent channels, h × w latent pixels, H × W pixels, L tokens,
D width of the text encoders together, W width of the pooled embedding, E text encoders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental import _config as symbolic_shapes

from latentshift.diffusion.condition import TextCondition
from latentshift.export.manifest import PartName
from latentshift.models.autoencoder import denormalize_latents
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.denoiser import denoise, is_guidance_distilled, wants_sizes
from latentshift.pipeline import LatentShiftPipeline

_MAX_VIDEOS = 1024
_TRACED_VIDEOS, _TRACED_FRAMES = 2, 3

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """A part that is exported.

    Attributes:
        name: of the part.
        module: takes ``inputs`` as keywords, and returns a tuple of tensors.
        inputs: (B, F) -> random inputs on the CPU, in order.
        outputs: names in order.
        videos: input -> its dimension of B.
        frames: input -> its dimension of F or M, where that is not fixed.
        fixed_frames: F of a graph that takes one video of so many frames only; None: any.
    """

    name: PartName
    module: nn.Module
    inputs: Callable[[int, int], Inputs]
    outputs: tuple[str, ...]
    videos: dict[str, int]
    frames: dict[str, int]
    fixed_frames: int | None = None

    def trace(self) -> ExportedProgram:
        """The part as a graph for any number of videos and frames."""
        example = self.inputs(1 if self.fixed_frames else _TRACED_VIDEOS, self.fixed_frames or _TRACED_FRAMES)
        dynamic: dict[str, dict[int, Any]] = {name: {} for name in example}
        # Without bounds: diffusers has cases for one frame and for 64 or more, which differ in memory layout only.
        frames, videos = Dim.DYNAMIC, Dim("videos", min=1, max=_MAX_VIDEOS)
        for dims, dim in ((self.videos, videos), (self.frames, frames)):
            for name, at in dims.items():
                dynamic[name][at] = dim
        # Otherwise the graph is for 2 videos and 3 frames or more: what one, or two, would do is a case of its own.
        with torch.no_grad(), cast(Any, symbolic_shapes).patch(backed_size_oblivious=True):
            return export(self.module.eval(), (), example, dynamic_shapes=dynamic, strict=False)


class _Denoiser(nn.Module):
    """The shifted U-Net: :func:`latentshift.models.denoiser.denoise`."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        tokens: Tensor,
        pooled: Tensor | None = None,
        sizes: Tensor | None = None,
        guidance_scale: Tensor | None = None,
    ) -> tuple[Tensor]:
        text = TextCondition(tokens, pooled, sizes)
        return (denoise(self.unet, latents, timestep, text, guidance_scale),)


class _Decoder(nn.Module):
    """From scaled latents (M, C, h, w) to frames (M, 3, H, W) in about [-1, 1]."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        return (self.autoencoder.decode(denormalize_latents(self.autoencoder, latents), return_dict=False)[0],)


class _Text(nn.Module):
    """From token ids (1, E, L) to tokens (1, L, D) and, of two encoders, pooled (1, W)."""

    def __init__(self, encoders: TextEncoders) -> None:
        super().__init__()
        self.encoders = encoders

    def forward(self, token_ids: Tensor) -> tuple[Tensor, ...]:
        text = self.encoders.embed(token_ids)
        return (text.tokens,) if text.pooled is None else (text.tokens, text.pooled)


def parts_of(pipeline: LatentShiftPipeline, height: int, width: int, frames: int | None) -> list[Part]:
    """The parts of a pipeline, the quickest to export first.

    Args:
        pipeline: in float32, on the CPU.
        height: of the frames in pixels.
        width: of the frames in pixels.
        frames: fixed F; None: any.
    """
    unet, encoders, scale = pipeline.unet, pipeline.text_encoders, pipeline.vae_scale_factor
    latent = (unet.config.in_channels, height // scale, width // scale)
    ids = (1, len(encoders.encoders), encoders.length)
    vocabulary = min(int(encoder.config.vocab_size) for encoder in encoders.encoders)  # type: ignore[union-attr,arg-type]

    def denoiser_inputs(videos: int, count: int) -> Inputs:
        inputs = {
            "latents": torch.randn(videos, count, *latent),
            "timestep": torch.tensor(500.0),
            "tokens": torch.randn(videos, encoders.length, encoders.width),
        }
        if wants_sizes(unet):
            inputs["pooled"] = torch.randn(videos, int(encoders.pooled_width or 0))
            inputs["sizes"] = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32).repeat(
                videos, 1
            )
        if is_guidance_distilled(unet):
            inputs["guidance_scale"] = torch.tensor(3.5)
        return inputs

    per_video = [name for name in denoiser_inputs(1, 1) if name not in ("timestep", "guidance_scale")]
    return [
        Part(
            "text_encoder",
            _Text(encoders),
            lambda videos, count: {"token_ids": torch.randint(vocabulary, ids)},
            ("tokens", "pooled") if encoders.pooled_width else ("tokens",),
            videos={},
            frames={},
        ),
        Part(
            "decoder",
            _Decoder(pipeline.vae),
            lambda videos, count: {"latents": torch.randn(count, *latent)},
            ("frames",),
            videos={},
            frames={"latents": 0},
        ),
        Part(
            "unet",
            _Denoiser(unet),
            denoiser_inputs,
            ("prediction",),
            videos={} if frames else dict.fromkeys(per_video, 0),
            frames={} if frames else {"latents": 1},
            fixed_frames=frames,
        ),
    ]
