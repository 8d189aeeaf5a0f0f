"""One forward signature for all video denoisers: latents of videos, with one timestep and one text for each.

Frames are folded into the U-Net's batch, and unfolded again, here and nowhere else.
Legend of shapes: B videos, F frames, N pixels of a frame, C channels, H × W latent pixels, L tokens, D width of the
text encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn.functional import pad

from latentshift.diffusion.condition import TextCondition
from latentshift.frame_context import frame_context, uncompiled
from latentshift.models.compiled_calls import CompiledCalls
from latentshift.models.conditioning.text_projection import with_projected_text
from latentshift.models.latent_vdm import attention_of
from latentshift.settings import check_chunk, default_chunk
from latentshift.shift import is_shifted, shift_of

if TYPE_CHECKING:
    from latentshift.models.deep_cache import CachedCall
    from latentshift.models.frame_chunks import Ends

_CROSS_ATTENTION = "attn2"  # diffusers' name for a transformer block's


class SharedTextAttention(AttnProcessor2_0):
    """Cross-attention to a text shared by all frames of a video: keys and values are computed once for each video.

    Queries are independent, so the pixels of all frames form one sequence of F·N queries. The result equals attention
    with the text repeated for every frame. With one text for each frame (F = 1) this is the stock processor. Inside
    :func:`latentshift.models.conditioning.text_projection.project_text_once` they are computed once for all steps.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """(B·F, N, C) and (B, L, D) in, (B·F, N, C) out."""
        rows = hidden_states.reshape(encoder_hidden_states.shape[0], -1, hidden_states.shape[-1])
        layer = with_projected_text(attn, encoder_hidden_states)
        attended: Tensor = super().__call__(layer, rows, encoder_hidden_states, *args, **kwargs)
        return attended.reshape(hidden_states.shape)


def share_text(unet: UNet2DConditionModel | ControlNetModel) -> None:
    """Let a stock U-Net or ControlNet take one text for each video, in place; custom attention processors are kept.

    No parameter or key changes, and calls with one text for each frame give the same result as before.
    """
    processors = unet.attn_processors
    for name, processor in processors.items():
        if _is_cross_attention(name) and type(processor) is AttnProcessor2_0:
            processors[name] = SharedTextAttention()
    unet.set_attn_processor(processors)


def compile_for_training(unet: UNet2DConditionModel) -> None:
    """``torch.compile`` a U-Net's forward, in place, with a workaround for a compiler bug that breaks training.

    Under CPU autocast, torch 2.13's inductor silently gives ``F.interpolate`` (nearest) a gradient of zero: no level
    below the topmost one would be trained. So the upsamplers repeat pixels instead, which is equivalent.
    """
    for module in unet.modules():
        if isinstance(module, Upsample2D) and module.interpolate:
            module.interpolate = False
            module.register_forward_pre_hook(_repeat_pixels, with_kwargs=True)
    unet.forward = torch.compile(unet.forward)


def denoise(
    unet: nn.Module,
    latents: Tensor,
    timesteps: Tensor,
    text: TextCondition,
    guidance_scale: float | Tensor | None = None,
    frame_chunk: int | None = None,
    cross_attention_kwargs: dict[str, Any] | None = None,
    controls: dict[str, Any] | None = None,
    ends: Ends | None = None,
    cached: CachedCall | None = None,
) -> Tensor:
    """The U-Net's prediction (noise or velocity) for noisy videos.

    Without the shift installed, frames are independent images.

    Args:
        latents: (B, F, C, H, W), scaled and noisy.
        timesteps: (B,) or a scalar, 0 … T-1: one for each video; or (B, F) or (1, F), one for each frame.
        text: one for each video, or one for each of its frames; pooled embedding and sizes are needed if
            :func:`wants_sizes`, and ignored otherwise; pictures are for a U-Net with IP-Adapters.
        guidance_scale: input of a guidance-distilled U-Net, a number or a scalar tensor; ignored otherwise.
        frame_chunk: frames of each video that are in one call of the U-Net
            (:mod:`latentshift.models.frame_chunks`), for videos of any length; the result is the same but for
            rounding. None: all.
        cross_attention_kwargs: for the attention processors.
        controls: what a ControlNet adds (:func:`latentshift.models.controlnet.control`), with all frames in one call.
        ends: where these are a part of longer videos, how to get at the frames before and after them; with a
            ``frame_chunk``.
        cached: calls a part of the U-Net around what was kept of earlier steps; None: all of it is called.

    Returns:
        (B, F, C, H, W).

    Raises:
        ValueError: for a guidance-distilled U-Net without a guidance scale, an SDXL U-Net without all conditions, or
            a chunk of frames that :func:`check_frame_chunk` refuses.
    """
    batch, num_frames = latents.shape[:2]
    options: dict[str, Any]
    if frame_chunk is not None:
        check_frame_chunk(unet, frame_chunk, num_frames)
        if frame_chunk < num_frames or ends is not None:
            if controls:
                raise ValueError("a ControlNet's residuals are for all frames in one call: leave frame_chunk out")
            options = {"guidance_scale": guidance_scale, "cross_attention_kwargs": cross_attention_kwargs}
            return _denoise_chunks(unet, latents, timesteps, text, frame_chunk, options, ends, cached)
    frames = latents.flatten(0, 1)
    steps = frame_timesteps(timesteps, batch, num_frames)
    options = {} if frame_context(unet) is None else {"num_frames": num_frames}
    if cross_attention_kwargs:
        options["cross_attention_kwargs"] = cross_attention_kwargs
    options |= {**sizes_of_frames(unet, text, num_frames), **(controls or {})}
    if text.pictures:
        pictures = [each.flatten(0, 1) for each in text.pictures]
        options["added_cond_kwargs"] = {**options.get("added_cond_kwargs", {}), "image_embeds": pictures}
    if is_guidance_distilled(unet):
        if guidance_scale is None:
            raise ValueError("this U-Net is guidance-distilled (time_cond_proj_dim) and needs a guidance scale")
        width = int(unet.config.time_cond_proj_dim)  # type: ignore[union-attr,arg-type]
        options["timestep_cond"] = guidance_embedding(guidance_scale, width).to(frames).expand(frames.shape[0], -1)
    tokens = frame_tokens(unet, text, num_frames)
    call: Callable[..., tuple[Tensor]] = unet if cached is None else cached
    predicted = call(frames, steps, encoder_hidden_states=tokens, return_dict=False, **options)[0]
    return predicted.unflatten(0, (batch, num_frames))


def frame_timesteps(timesteps: Tensor, batch: int, num_frames: int) -> Tensor:
    """The timestep of each frame, (B·F,), of those that :func:`denoise` takes: a scalar, (B,), (B, F) or (1, F)."""
    if timesteps.ndim == 2:
        return timesteps.expand(batch, num_frames).flatten()
    # Repeated: what is expanded would be a case of its own for one frame in a graph (latentshift export).
    return timesteps.expand(batch).unsqueeze(1).repeat(1, num_frames).flatten()


def frame_tokens(module: nn.Module, text: TextCondition, num_frames: int) -> Tensor:
    """The tokens that a U-Net or ControlNet takes: one text for each video if it shares them, else for each frame.

    So (B, L, D) or (B·F, L, D).
    Attention that shares the text of a video takes one for each frame as well, as the stock processor does.
    """
    if text.of_frames:
        return text.tokens.flatten(0, 1)
    return text.tokens if _shares_text(module) else text.tokens.repeat_interleave(num_frames, dim=0)


def sizes_of_frames(module: nn.Module, text: TextCondition, num_frames: int) -> dict[str, Any]:
    """SDXL's further conditions of each frame, as an argument of its U-Net or ControlNet; nothing for the others.

    Pooled embeddings are (B·F, W), sizes (B·F, 6).

    Raises:
        ValueError: if the text lacks them.
    """
    if not wants_sizes(module):
        return {}
    if text.pooled is None or text.sizes is None:
        raise ValueError("this U-Net needs a pooled embedding and sizes beside the tokens, as SDXL's do")
    if text.of_frames:
        pooled, sizes = text.pooled.flatten(0, 1), text.sizes.unsqueeze(1).repeat(1, num_frames, 1).flatten(0, 1)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}
    per_frame = text.repeat(num_frames)
    return {"added_cond_kwargs": {"text_embeds": per_frame.pooled, "time_ids": per_frame.sizes}}


def default_frame_chunk(unet: nn.Module, num_frames: int, latent_pixels: int) -> int:
    """Frames of a video in one call of the U-Net, if nobody says: :func:`latentshift.settings.default_chunk`.

    Where chunks are not possible (:func:`check_frame_chunk`), all.
    """
    return num_frames if why_whole(unet) else default_chunk(num_frames, latent_pixels)


def check_frame_chunk(unet: nn.Module, frame_chunk: int, num_frames: int) -> None:
    """Refuse a chunk of frames that a U-Net can't be called with.

    Args:
        unet: of the call.
        frame_chunk: of it.
        num_frames: F of the videos.

    Raises:
        ValueError: if it is not 1 … F, or if the U-Net looks at all frames at once, is compiled, is offloaded in
            groups, or is trained.
    """
    check_chunk(frame_chunk, num_frames)
    if frame_chunk < num_frames and (reason := why_whole(unet)):
        raise ValueError(f"frame_chunk={frame_chunk} is not possible: {reason}")


def is_guidance_distilled(unet: nn.Module) -> bool:
    """Whether a U-Net takes the guidance scale as an input, like latent consistency models, so that none is applied."""
    return getattr(unet.config, "time_cond_proj_dim", None) is not None


def guidance_embedding(scale: float | Tensor, width: int) -> Tensor:
    """Sines and cosines (1, ``width``) of 1000 (s - 1) for a guidance scale s, as in ``StableDiffusionPipeline``."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * -(math.log(10_000.0) / (half - 1)))
    angles = 1000.0 * (scale - 1.0) * frequencies
    return pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))[None]


def wants_sizes(unet: nn.Module) -> bool:
    """Whether a U-Net takes a pooled text embedding and image sizes, like SDXL's."""
    return getattr(unet.config, "addition_embed_type", None) == "text_time"


def why_whole(unet: nn.Module) -> str | None:
    """Why a U-Net can't be called on chunks of frames, as half a sentence; None if it can."""
    if attention_of(unet) is not None:
        return "Latent-VDM's temporal attention looks at all frames at once"
    if is_compiled(unet):
        return "a compiled U-Net can't be interrupted inside its layers"
    if _is_group_offload_enabled(unet):  # a block leaves the device when one chunk's pass through it ends
        return "group offloading moves blocks away that other chunks are still inside"
    if torch.is_grad_enabled():
        return "chunks are for sampling, under torch.no_grad() or torch.inference_mode()"
    return None


def is_compiled(unet: nn.Module) -> bool:
    """Whether shifted layers of a U-Net run in compiled code, whatever the call."""
    return uncompiled(unet) is not unet or any(_compiled_with_shift(module) for module in unet.modules())


def _denoise_chunks(
    unet: nn.Module,
    latents: Tensor,
    timesteps: Tensor,
    text: TextCondition,
    frame_chunk: int,
    options: Mapping[str, Any],
    ends: Ends | None,
    cached: CachedCall | None,
) -> Tensor:
    """:func:`denoise` of each chunk of frames, in turns; ``options`` are what it takes for all chunks alike."""
    num_frames = latents.shape[1]
    chunks = zip(
        latents.split(frame_chunk, dim=1),
        _parts(timesteps, frame_chunk, num_frames),
        text.split_frames(frame_chunk, num_frames),
        strict=True,
    )
    calls = [
        partial(denoise, unet, *chunk, **options, cached=None if cached is None else cached.part(number))
        for number, chunk in enumerate(chunks)
    ]
    return torch.cat(_call_in_turns(unet, calls, ends), dim=1)


def _parts(timesteps: Tensor, frame_chunk: int, num_frames: int) -> Sequence[Tensor]:
    """The timesteps of each chunk of frames."""
    if timesteps.ndim == 2:
        return timesteps.split(frame_chunk, dim=1)
    return [timesteps] * -(-num_frames // frame_chunk)


def _compiled_with_shift(module: nn.Module) -> bool:
    impl = module._compiled_call_impl  # of ours, chunks are never compiled
    whole = impl is not None and not isinstance(impl, CompiledCalls)
    compiled = whole or hasattr(module.forward, "_torchdynamo_orig_callable")
    return compiled and any(is_shifted(layer) for layer in module.modules())


def _call_in_turns(unet: nn.Module, calls: Sequence[Callable[[], Tensor]], ends: Ends | None) -> list[Tensor]:
    context, config = frame_context(unet), shift_of(unet)
    if context is None or config is None:  # frames are independent
        return [call() for call in calls]
    from latentshift.models.frame_chunks import Ends, run_in_turns

    whole = ends is None
    return run_in_turns(context, calls, ring=whole and config.padding == "circular", ends=ends or Ends())


def _repeat_pixels(
    upsample: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    hidden, *sizes = args
    if any(size is not None for size in (*sizes, *kwargs.values())):
        raise ValueError("a compiled U-Net takes sizes that halve evenly down to its lowest level only")
    return (hidden.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2),), {}


def _shares_text(unet: nn.Module) -> bool:
    # Not unet.attn_processors, which asks every layer for what hardly one has: 1 % of a small U-Net's call.
    cross_attention = [
        cast(Any, layer).get_processor()
        for name, layer in unet.named_modules()
        if name.endswith(_CROSS_ATTENTION) and hasattr(type(layer), "get_processor")
    ]
    return bool(cross_attention) and all(isinstance(processor, SharedTextAttention) for processor in cross_attention)


def _is_cross_attention(name: str) -> bool:
    return name.endswith(f"{_CROSS_ATTENTION}.processor")
