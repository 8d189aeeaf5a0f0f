"""Arguments of a call that are read alike whatever runs the model, PyTorch or an export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.sampling import initial_noise
from latentshift.diffusion.schedulers import check_sampling, check_scheduler
from latentshift.settings import MAX_FRAMES, check_guidance, check_output_type, check_steps, default_chunk, whole_number


def whole_numbers(**values: Any) -> list[int]:
    """Arguments of a call, by their names, that must be whole numbers, of Python or of another library.

    Raises:
        ValueError: for the first that is none; the message names it.
    """
    return [whole_number(value, name) for name, value in values.items()]


def check_sampling_arguments(
    scheduler: Any,
    noise_share: float,
    num_frames: int,
    num_inference_steps: int,
    guidance_scale: float,
    output_type: str,
) -> None:
    """Refuse arguments of a call that are wrong whatever runs the model, PyTorch or an export.

    Args:
        scheduler: of the call.
        noise_share: a ≥ 0, how much noise frames share; of no account for one frame.
        num_frames: F, 1 … 100,000.
        num_inference_steps: in the scheduler's range (:func:`latentshift.settings.check_steps`).
        guidance_scale: finite, 0 or more.
        output_type: ``"pil"``, ``"np"``, ``"pt"`` or ``"latent"``.

    Raises:
        ValueError: for the first that is wrong; the message names it.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be 1 or more, not {num_frames}")
    if num_frames > MAX_FRAMES:  # ten million would fill the machine's memory before the first step
        raise ValueError(f"num_frames must be {MAX_FRAMES:,} or less, not {num_frames:,}")
    check_scheduler(type(scheduler).__name__, scheduler.config)
    check_sampling(scheduler, noise_share if num_frames > 1 else 0.0)
    check_steps(num_inference_steps, scheduler.config)
    check_guidance(guidance_scale)
    check_output_type(output_type)


def read_noise(
    latents: Tensor | None,
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    device: torch.device,
) -> Tensor:
    """The noise (B, F, C, h, w) that a call is given, or else draws.

    Args:
        latents: that are given; None: drawn from the generators, on ``device``.
        shape: (F, C, h, w) of a video.
        generators: of B videos.
        device: of noise that is drawn.

    Raises:
        ValueError: for latents of another shape.
    """
    if latents is None:
        return initial_noise(shape, generators, device)
    if tuple(latents.shape) != (wanted := (len(generators), *shape)):
        raise ValueError(f"latents must have the shape {wanted}, not {tuple(latents.shape)}")
    return latents


def read_decode_chunk(chunk_size: int | None, frame_chunk: int | None, num_frames: int, latent_pixels: int) -> int:
    """Frames decoded at a time.

    Args:
        chunk_size: of the call; None: as ``frame_chunk``, or else as :func:`latentshift.settings.default_chunk` says.
        frame_chunk: of the call.
        num_frames: F.
        latent_pixels: h · w.

    Raises:
        ValueError: if there are none.
    """
    if chunk_size is None:
        return frame_chunk or default_chunk(num_frames, latent_pixels)
    if chunk_size < 1:
        raise ValueError(f"decode_chunk_size must be 1 or more, or None, not {chunk_size}")
    return chunk_size
