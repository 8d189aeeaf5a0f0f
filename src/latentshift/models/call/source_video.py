"""The video that a call starts from, in place of noise: which clip each prompt's videos have, and its latents.

Legend of shapes: P prompts, B videos, n = B / P of each prompt, F frames, C latent channels, h × w latent pixels,
H × W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn.functional import interpolate

from latentshift.diffusion.known_frames import KnownFrames
from latentshift.diffusion.video_start import check_start, noised_start, skip_steps
from latentshift.models.autoencoder import encode_pictures
from latentshift.models.call.pictures import as_tensor, clips_for_prompts, is_latents
from latentshift.settings import VIDEO_STRENGTH, check_strength
from latentshift.video.cut import Cut

_NAME = "video"


@dataclass(frozen=True)
class SourceVideo:
    """A video to start from, which was checked.

    Attributes:
        clips: of each of P prompts, F pictures as :mod:`latentshift.models.call.pictures` has them; or latents
            (P, F, C, h, w) or (B, F, C, h, w).
        cut: the frames' size.
        strength: in [0, 1].
        videos_per_prompt: n.
    """

    clips: list[list[Any]] | Tensor
    cut: Cut
    strength: float
    videos_per_prompt: int

    def encode(self, autoencoder: AutoencoderKL, device: torch.device, chunk_size: int) -> Tensor:
        """Scaled latents (B, F, C, h, w) in float32: the mean of each posterior.

        Args:
            autoencoder: of the pipeline; a picture that frames share is encoded once, and a clip that prompts share.
            device: of the latents.
            chunk_size: pictures at a time.
        """
        if isinstance(self.clips, Tensor):
            latents = self.clips.to(device, torch.float32)
        else:
            encoded: dict[tuple[int, ...], Tensor] = {}
            for clip in self.clips:
                if (name := tuple(map(id, clip))) not in encoded:
                    encoded[name] = self._encode_clip(clip, autoencoder, device, chunk_size)
            latents = torch.stack([encoded[tuple(map(id, clip))] for clip in self.clips])
        return latents.repeat_interleave(self.videos_per_prompt, dim=0)

    def _encode_clip(self, clip: list[Any], autoencoder: AutoencoderKL, device: torch.device, chunk: int) -> Tensor:
        """(F, C, h, w) of a clip by itself: rounding depends on which pictures are encoded together."""
        pictures = {id(picture): picture for picture in clip}
        latents = []
        for at in range(0, len(pictures), chunk):
            some = list(pictures.values())[at : at + chunk]
            pixels = torch.stack([fit_picture(as_tensor(picture), self.cut) for picture in some])
            latents.append(encode_pictures(autoencoder, pixels.to(device) * 2 - 1))
        encoded = dict(zip(pictures, torch.cat(latents), strict=True))
        return torch.stack([encoded[id(picture)] for picture in clip])

    def start(self, pipe: Any, noise: Tensor, known: KnownFrames | None, chunk_size: int) -> tuple[Tensor, int]:
        """What sampling begins with, and the number of the timestep that it begins at.

        Args:
            pipe: the video pipeline, whose timesteps are set; the first ones are left out.
            noise: (B, F, C, h, w), independent, standard normal.
            known: keyframes, which take the places of the video's frames; None without.
            chunk_size: pictures encoded at a time.
        """
        first = skip_steps(pipe.scheduler, self.strength)
        clean = self.encode(pipe.vae, noise.device, chunk_size)
        clean = clean if known is None else known.over(clean)
        return noised_start(pipe.scheduler, first, clean, noise, pipe.config.noise_share), first


def source_length(video: Any, num_prompts: int, channels: int) -> int | None:
    """The number of frames that a clip decides; None if there is none, or one picture for all frames.

    Args:
        video: as for :func:`read_source_video`.
        num_prompts: P.
        channels: C of latents.

    Raises:
        ValueError: if it can't be told whether pictures are a clip, or one for each of P prompts.
    """
    if _are_latents(video, channels):
        return int(video.shape[-4])
    sizes = _lengths(video)
    if not sizes:
        return None
    if len(sizes) == 1 and sizes[0] == num_prompts > 1:
        raise ValueError(
            f"{_NAME} has {num_prompts} pictures for {num_prompts} prompts: give num_frames, or [clip] * {num_prompts} "
            "for a clip"
        )
    return sizes[-1] if sizes[-1] > 1 else None


def read_source_video(
    pipe: Any,
    video: Any,
    strength: float | None,
    num_prompts: int,
    videos_per_prompt: int,
    num_frames: int,
    height: int,
    width: int,
) -> SourceVideo | None:
    """Check the video of a call.

    Args:
        pipe: the video pipeline.
        video: a clip of F pictures, one picture for all frames, or P of either; or latents (F, C, h, w), or
            (P or B, F, C, h, w). None without.
        strength: in [0, 1]; None: ``VIDEO_STRENGTH``.
        num_prompts: P.
        videos_per_prompt: n.
        num_frames: F.
        height: H.
        width: W.

    Raises:
        ValueError: for another number of pictures, one that no pipeline should be given, latents of another shape, a
            strength without a video or outside of its range, or a scheduler that can't begin in the middle.
    """
    if video is None:
        if strength is not None:
            raise ValueError("strength is of a video to start from, and there is none: give video, or leave it out")
        return None
    strength = VIDEO_STRENGTH if strength is None else strength
    check_strength(strength, "strength")
    check_start(pipe.scheduler)
    cut = Cut(height, width)
    channels = int(pipe.unet.config.in_channels)
    if not _are_latents(video, channels):
        clips = clips_for_prompts(video, _NAME, num_prompts, num_frames)
        if any(is_latents(picture) for clip in clips for picture in clip):
            raise ValueError(f"{_NAME} has latents among its pictures: give them as one tensor (F, {channels}, h, w)")
        if (found := as_tensor(clips[0][0]).shape[0]) not in (1, 3):
            raise ValueError(f"{_NAME} has pictures of {found} channels: arrays are (F, H, W, 3), tensors (F, 3, H, W)")
        return SourceVideo(clips, cut, strength, videos_per_prompt)
    latents = video[None] if video.ndim == 4 else video
    scale, videos = pipe.vae_scale_factor, num_prompts * videos_per_prompt
    shape = (num_frames, channels, height // scale, width // scale)
    if tuple(latents.shape[1:]) != shape or len(latents) not in (1, num_prompts, videos):
        raise ValueError(f"{_NAME} as latents must have the shape {(num_prompts, *shape)}, not {tuple(video.shape)}")
    if len(latents) == 1:
        latents = latents.expand(num_prompts, *shape)
    return SourceVideo(latents, cut, strength, videos // len(latents))


def fit_picture(picture: Tensor, cut: Cut) -> Tensor:
    """A picture (1 or 3, h, w) in [0, 1] as a frame (3, H, W): resized to cover it, and cropped about the centre."""
    size = cut.scaled(*picture.shape[-2:])
    pixels = picture.float().expand(3, -1, -1)
    if size != tuple(picture.shape[-2:]):
        pixels = interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    top, left = cut.corner(*size)
    return pixels[:, top : top + cut.height, left : left + cut.width]


def _are_latents(video: Any, channels: int) -> bool:
    """Whether a video is latents: by their channels, which are not those of a picture."""
    return isinstance(video, Tensor) and video.ndim in (4, 5) and video.shape[-3] == channels != 3


def _lengths(video: Any) -> list[int]:
    """How many entries each level of lists has, of a video that is nested evenly; none of a picture."""
    if isinstance(video, (np.ndarray, Tensor)):
        return list(video.shape[:-3])
    if not isinstance(video, (list, tuple)) or not video:
        return []
    return [len(video), *_lengths(video[0])]
