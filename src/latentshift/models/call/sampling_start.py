"""What a sampling of ``LatentShiftPipeline`` begins with: noise, or a video with noise on it, and known frames.

Legend of shapes: B videos, F frames, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.known_frames import KnownFrames
from latentshift.models.call.keyframes import Keyframes
from latentshift.models.call.source_video import SourceVideo


@dataclass(frozen=True)
class SamplingStart:
    """The beginning of a sampling, as :func:`latentshift.diffusion.sampling.sample` takes it.

    Attributes:
        latents: (B, F, C, h, w) in float32, at the first timestep's noise level.
        known: frames that are held at clean latents; None: none.
        first_step: number of the timestep that sampling begins at, with a video; None: at noise, and all are taken.
        timesteps: of the scheduler, those that are taken.
    """

    latents: Tensor
    known: KnownFrames | None
    first_step: int | None
    timesteps: Tensor


def start_sampling(
    pipe: Any,
    noise: Tensor,
    keyframes: Keyframes | None,
    video: SourceVideo | None,
    chunk_size: int,
    device: torch.device,
) -> SamplingStart:
    """Encode what a call is given of its videos beforehand, and put noise on it.

    Args:
        pipe: the video pipeline, whose timesteps are set.
        noise: (B, F, C, h, w), independent, standard normal.
        keyframes: of the call; None without.
        video: of the call; None without.
        chunk_size: pictures encoded at a time.
        device: of the result.
    """
    latents, first_step = noise.to(device, torch.float32), None
    known = None if keyframes is None else keyframes.encode(pipe.vae, device)
    if video is None:
        latents = latents * pipe.scheduler.init_noise_sigma
    else:
        latents, first_step = video.start(pipe, latents, known, chunk_size)
    return SamplingStart(latents, known, first_step, pipe.scheduler.timesteps[first_step or 0 :])
