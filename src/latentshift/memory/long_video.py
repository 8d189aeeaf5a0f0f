"""Memory of a pass over a video of any length, expected from the model's configuration alone."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from latentshift.diffusion.condition import TextCondition
from latentshift.memory.fake_tensors import fake_tensors
from latentshift.memory.trace import peak_memory
from latentshift.models.denoiser import denoise
from latentshift.models.skip_offload import offloaded_skips
from latentshift.models.storage.meta_init import meta_components
from latentshift.models.storage.model_paths import resolve_model
from latentshift.pipeline import LatentShiftPipeline
from latentshift.shift import is_shifted

_SIZES = (0.0,) * 6  # SDXL's sizes: their values do not matter here


def pass_memory(
    model: str, num_frames: int, frame_chunk: int, padding: str, dtype: torch.dtype, *, offload_skips: bool = False
) -> int:
    """Bytes of the device at the peak of a guided pass of one video through the U-Net, beside its weights.

    Of a video with more chunks than can be under way (:mod:`latentshift.models.frame_chunks`), as many are traced,
    and of the other frames latents and predictions are added.

    Args:
        model: as for :func:`latentshift.models.storage.model_paths.resolve_model`.
        num_frames: F.
        frame_chunk: frames in one call of the U-Net.
        padding: of the shift.
        dtype: of the weights and activations.
        offload_skips: whether skip connections wait in CPU memory (:mod:`latentshift.models.skip_offload`).

    Raises:
        ValueError, OSError: if the model's configuration can't be read.
    """
    pipeline = LatentShiftPipeline(**meta_components(resolve_model(model)))
    pipeline.set_shift({**(pipeline.config.shift or {}), "padding": padding})
    unet, encoders = pipeline.unet.to(dtype), pipeline.text_encoders
    ids = torch.zeros(1, len(encoders.encoders), encoders.length, dtype=torch.long, device="meta")
    encoded = encoders(ids)
    with fake_tensors(), torch.no_grad():
        unet.to_empty(device="cpu")
        pooled = None if encoded.pooled is None else torch.empty(2, *encoded.pooled.shape[1:], dtype=dtype)
        text = TextCondition(torch.empty(2, *encoded.tokens.shape[1:], dtype=dtype), pooled).with_sizes(_SIZES)
        side = unet.config.sample_size
        layers = sum(is_shifted(module) for module in unet.modules())
        traced = min(num_frames, frame_chunk * (2 * layers + 2))
        latents = torch.empty(2, traced, unet.config.in_channels, side, side, dtype=dtype)
        # What is offloaded from the CPU goes to the device that stands for another memory here.
        with offloaded_skips(unet, torch.device("meta")) if offload_skips else nullcontext():
            peak = peak_memory(
                lambda: denoise(unet, latents, torch.zeros(2), text, 1.0, min(frame_chunk, traced)), "cpu"
            )
    return peak + 2 * latents[:, 0].nbytes * (num_frames - traced)
