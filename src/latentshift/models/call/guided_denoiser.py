"""A U-Net as the denoiser of one call: with its texts, guidance, chunks of frames, and deep features that are kept.

Legend of shapes: B videos, F frames, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.guidance import PromptedDenoiser, with_guidance
from latentshift.models.deep_cache import DeepCache
from latentshift.models.denoiser import denoise, is_guidance_distilled


def guided_denoiser(
    unet: nn.Module,
    text: TextCondition,
    negative: TextCondition,
    guidance_scale: float,
    device: torch.device,
    *,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
    frame_chunk: int | None = None,
    cross_attention_kwargs: dict[str, Any] | None = None,
    deep_cache: DeepCache | None = None,
    denoise_frames: Callable[..., Tensor] = denoise,
) -> PromptedDenoiser:
    """What :func:`latentshift.diffusion.sampling.sample` calls: noisy latents (B, F, C, h, w) in float32 -> prediction.

    Latents and prediction are float32, so that the noise of a seed is the same whatever the U-Net's dtype. On the CPU
    the U-Net gets one video at a time: no slower there, and results do not depend on the batch.

    Args:
        unet: of the pipeline.
        text: of B videos, on the U-Net's device and in its dtype.
        negative: likewise, of what to avoid.
        guidance_scale: of the call; a guidance-distilled U-Net takes it as an input instead.
        device: that the U-Net runs on.
        rescale: as for :func:`latentshift.diffusion.guidance.with_guidance`.
        interval: likewise.
        frame_chunk: as for :func:`latentshift.models.denoiser.denoise`.
        cross_attention_kwargs: likewise.
        deep_cache: of the call; None: the whole U-Net is called in each step.
        denoise_frames: in place of :func:`latentshift.models.denoiser.denoise`, where other processes have a part.
    """
    dtype = cast(torch.dtype, unet.dtype)

    def predict(noisy: Tensor, timestep: Tensor, condition: TextCondition) -> Tensor:
        cached = {} if deep_cache is None else {"cached": deep_cache.of(condition)}
        arguments = guidance_scale, frame_chunk, cross_attention_kwargs
        return denoise_frames(unet, noisy.to(dtype), timestep, condition, *arguments, **cached).float()

    denoiser = with_guidance(
        predict,
        text,
        negative,
        1.0 if is_guidance_distilled(unet) else guidance_scale,
        videos_per_call=1 if device.type == "cpu" else None,
        rescale=rescale,
        interval=interval,
    )
    return denoiser if deep_cache is None else deep_cache.each_step(denoiser)
