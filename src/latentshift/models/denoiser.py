"""One forward signature for every video denoiser: latents in frames, a timestep and a text a video.

Folding the frames into the U-Net's batch, and out again, happens here and nowhere else.
Legend of shapes: B videos, F frames, N pixels of a frame, C channels, H × W latent pixels, L tokens, D width of the
text encoder.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn.functional import pad

from latentshift.diffusion.condition import TextCondition
from latentshift.frame_context import frame_context


class SharedTextAttention(AttnProcessor2_0):
    """Cross-attention to a text that all frames of a video share: its keys and values are made once a video.

    Queries know nothing of each other, so the frames' pixels can stand in one row of F·N queries: the same numbers as
    with the text repeated for every frame, without the copies. A text a frame (F = 1) is the stock processor.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """(B·F, N, C) and (B, L, D) in, (B·F, N, C) out."""
        rows = hidden_states.reshape(len(encoder_hidden_states), -1, hidden_states.shape[-1])
        attended: Tensor = super().__call__(attn, rows, encoder_hidden_states, *args, **kwargs)
        return attended.reshape(hidden_states.shape)


def share_text(unet: UNet2DConditionModel) -> None:
    """Let a stock U-Net take one text a video, in place; processors that someone else has chosen stay.

    No parameter or key changes, and calls with a text a frame give what they gave before.
    """
    processors = unet.attn_processors
    for name, processor in processors.items():
        if _is_of_text(name) and type(processor) is AttnProcessor2_0:
            processors[name] = SharedTextAttention()
    unet.set_attn_processor(processors)


def compile_for_training(unet: UNet2DConditionModel) -> None:
    """``torch.compile`` a U-Net's forward, in place, around a fault of the compiler that training would not survive.

    Under CPU autocast torch 2.13's inductor gives ``F.interpolate`` (nearest) a gradient of zero, in silence: all that
    lies below the topmost level would never learn. So the upsamplers repeat pixels themselves, which is the same.
    """
    for module in unet.modules():
        if isinstance(module, Upsample2D) and module.interpolate:
            module.interpolate = False
            module.register_forward_pre_hook(_repeat_pixels, with_kwargs=True)
    unet.forward = torch.compile(unet.forward)


def denoise(
    unet: nn.Module, latents: Tensor, timesteps: Tensor, text: TextCondition, guidance_scale: float | None = None
) -> Tensor:
    """What the U-Net predicts (noise, or velocity) for noisy videos.

    Without the shift installed the frames are images that know nothing of each other.

    Args:
        latents: (B, F, C, H, W), scaled and noisy.
        timesteps: (B,) or a scalar, 0 … T-1: one a video.
        text: one a video; a U-Net that :func:`wants_sizes` needs a pooled embedding and sizes, others don't read them.
        guidance_scale: that a guidance-distilled U-Net is to follow; others don't read it.

    Returns:
        (B, F, C, H, W).

    Raises:
        ValueError: for a guidance-distilled U-Net without a guidance scale, or SDXL's without all conditions.
    """
    batch, num_frames = latents.shape[:2]
    frames = latents.flatten(0, 1)
    steps = timesteps.expand(batch).repeat_interleave(num_frames)
    options: dict[str, Any] = {} if frame_context(unet) is None else {"num_frames": num_frames}
    if wants_sizes(unet):
        if text.pooled is None or text.sizes is None:
            raise ValueError("this U-Net needs a pooled embedding and sizes beside the tokens, as SDXL's do")
        a_frame = text.repeat(num_frames)
        options["added_cond_kwargs"] = {"text_embeds": a_frame.pooled, "time_ids": a_frame.sizes}
    if is_guidance_distilled(unet):
        if guidance_scale is None:
            raise ValueError("this U-Net is guidance-distilled (time_cond_proj_dim) and needs a guidance scale")
        width = int(unet.config.time_cond_proj_dim)  # type: ignore[union-attr,arg-type]
        options["timestep_cond"] = guidance_embedding(guidance_scale, width).to(frames).expand(len(frames), -1)
    tokens = text.tokens if _shares_text(unet) else text.tokens.repeat_interleave(num_frames, dim=0)
    predicted = unet(frames, steps, encoder_hidden_states=tokens, return_dict=False, **options)[0]
    return predicted.unflatten(0, (batch, num_frames))


def is_guidance_distilled(unet: nn.Module) -> bool:
    """Whether a U-Net is given its guidance scale, as latent consistency models' are, so that none is applied."""
    return getattr(unet.config, "time_cond_proj_dim", None) is not None


def guidance_embedding(scale: float, width: int) -> Tensor:
    """Sines and cosines (1, ``width``) of 1000 (s - 1) for a guidance scale s, as in ``StableDiffusionPipeline``."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * -(math.log(10_000.0) / (half - 1)))
    angles = 1000.0 * (scale - 1.0) * frequencies
    return pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))[None]


def wants_sizes(unet: nn.Module) -> bool:
    """Whether a U-Net is given a pooled embedding and the sizes of its images beside the tokens, as SDXL's is."""
    return getattr(unet.config, "addition_embed_type", None) == "text_time"


def _repeat_pixels(
    upsample: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    hidden, *sizes = args
    if any(size is not None for size in (*sizes, *kwargs.values())):
        raise ValueError("a compiled U-Net takes sizes that halve evenly down to its lowest level only")
    return (hidden.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2),), {}


def _shares_text(unet: nn.Module) -> bool:
    processors = getattr(unet, "attn_processors", {})
    of_text = [processor for name, processor in processors.items() if _is_of_text(name)]
    return bool(of_text) and all(isinstance(processor, SharedTextAttention) for processor in of_text)


def _is_of_text(name: str) -> bool:
    return name.endswith("attn2.processor")  # diffusers' name for a transformer block's cross-attention
