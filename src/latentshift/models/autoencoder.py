"""The frame-wise autoencoder: pixels to latent moments and back, each frame independently (Fig. 3 a, b).

Legend of shapes: B videos, F frames of each, M frames, C latent channels, h × w latent pixels, S side of a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

# Pipelines may share an autoencoder, whose dtype is changed temporarily, as where float16 overflows.
_decoding = threading.Lock()


def build_autoencoder(
    *, channels: Sequence[int], layers_per_block: int, latent_channels: int, norm_groups: int, size: int
) -> AutoencoderKL:
    """A KL autoencoder without attention (Table 6) with a downsampling factor of 2^(levels - 1).

    Args:
        channels: of each level, from the pixels down; multiples of ``norm_groups``.
        layers_per_block: ResNet blocks of a level of the encoder; the decoder has one more.
        latent_channels: C.
        norm_groups: of the group norms.
        size: side S of its frames in pixels, which its config keeps.
    """
    levels = len(channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(channels),
        layers_per_block=layers_per_block,
        latent_channels=latent_channels,
        norm_num_groups=norm_groups,
        sample_size=size,
        mid_block_add_attention=False,
    )


def encode_moments(autoencoder: AutoencoderKL, frames: Tensor) -> Tensor:
    """Mean and log-variance (M, 2C, h, w), unscaled, of frames (M, 3, S, S) in [-1, 1]."""
    return autoencoder.encode(frames).latent_dist.parameters


def normalize_latents(autoencoder: AutoencoderKL, raw: Tensor) -> Tensor:
    """Scale raw latents (…, C, h, w) to about unit variance, as the U-Net takes them.

    Multiplied by ``scaling_factor``; with ``latents_mean`` and ``latents_std`` after (raw - mean) / std (the inverse of
    ``StableDiffusionXLPipeline``'s decoding).
    """
    scaling = autoencoder.config.scaling_factor
    if autoencoder.config.latents_mean is None:
        return raw * scaling
    mean, deviation = _latent_statistics(autoencoder, raw)
    return (raw - mean) * (scaling / deviation)


def denormalize_latents(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """Raw latents (…, C, h, w), as the decoder takes them, from scaled ones: inverts :func:`normalize_latents`."""
    scaling = autoencoder.config.scaling_factor
    if autoencoder.config.latents_mean is None:
        return latents / scaling
    mean, deviation = _latent_statistics(autoencoder, latents)
    return latents * deviation / scaling + mean


def sample_moments(autoencoder: AutoencoderKL, moments: Tensor, noise: Tensor) -> Tensor:
    """Scaled latents from moments (…, 2C, h, w) and standard normal noise (…, C, h, w)."""
    mean, log_variance = moments.chunk(2, dim=-3)
    return normalize_latents(autoencoder, mean + (0.5 * log_variance.clamp(-30.0, 20.0)).exp() * noise)


def mean_latents(autoencoder: AutoencoderKL, frames: Tensor) -> Tensor:
    """Scaled latents (M, C, h, w) of frames (M, 3, S, S) in [-1, 1]: the mean of each posterior."""
    return normalize_latents(autoencoder, encode_moments(autoencoder, frames).chunk(2, dim=1)[0])


def encode_pictures(autoencoder: AutoencoderKL, pictures: Tensor) -> Tensor:
    """:func:`mean_latents` in float32 whatever the autoencoder's dtype, for a few pictures that are to be kept exactly.

    Args:
        autoencoder: of one dtype.
        pictures: (M, 3, H, W) in [-1, 1].

    Returns:
        Scaled latents (M, C, h, w) in float32.
    """
    dtype = autoencoder.dtype
    with _decoding:
        try:
            nn.Module.to(autoencoder, torch.float32)  # diffusers' own would warn
            return mean_latents(autoencoder, pictures.float())
        finally:
            nn.Module.to(autoencoder, dtype)


def decode_latents(autoencoder: AutoencoderKL, latents: Tensor, chunk_size: int | None = None) -> Tensor:
    """Frames (M, 3, S, S) in about [-1, 1] from scaled latents (M, C, h, w), ``chunk_size`` at a time (none: all)."""
    raw = denormalize_latents(autoencoder, latents)
    chunks = raw.to(autoencoder.dtype).split(chunk_size or len(raw))
    return torch.cat([autoencoder.decode(chunk, return_dict=False)[0] for chunk in chunks])


def decode_videos(
    autoencoder: AutoencoderKL, latents: Tensor, chunk_size: int | None = None, *, upcast: bool = False
) -> Tensor:
    """Frames (B, F, 3, S, S) in about [-1, 1] from scaled latents (B, F, C, h, w), one video at a time.

    A float16 autoencoder whose activations overflow decodes in float32; the frames are float16 nevertheless.

    Args:
        autoencoder: of one dtype.
        latents: scaled.
        chunk_size: frames at a time; None: all of a video.
        upcast: use float32 instead of float16 without trying float16 first.
    """
    with _decoding:
        is_half = autoencoder.dtype == torch.float16
        videos = [] if is_half and upcast else [decode_latents(autoencoder, video, chunk_size) for video in latents]
        if is_half and not (videos and all(torch.isfinite(video).all() for video in videos)):
            try:
                autoencoder.to(torch.float32)
                videos = [decode_latents(autoencoder, video, chunk_size).half() for video in latents]
            finally:
                autoencoder.to(torch.float16)
    return torch.stack(videos)


def _latent_statistics(autoencoder: AutoencoderKL, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C, 1, 1) of raw latents."""
    config = autoencoder.config
    mean, deviation = (like.new_tensor(each)[:, None, None] for each in (config.latents_mean, config.latents_std))
    return mean, deviation
