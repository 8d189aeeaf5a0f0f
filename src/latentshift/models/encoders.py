"""Encoders as functions on numpy arrays, for :mod:`latentshift.data.latents`, which knows no models.

Legend of shapes: M frames, S side, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL

from latentshift.caption_embedding import CaptionEmbedding
from latentshift.models.autoencoder import encode_moments
from latentshift.models.conditioning.text import TextEncoders
from latentshift.video import to_unit


def frame_encoder(
    autoencoder: AutoencoderKL, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 RGB (M, S, S, 3) -> raw moments (M, 2C, h, w) float32; ``dtype`` is autocast's."""
    autoencoder.to(device)

    def encode(frames: np.ndarray) -> np.ndarray:
        pixels = to_unit(torch.from_numpy(frames).permute(0, 3, 1, 2))
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return encode_moments(autoencoder, pixels.to(device)).float().cpu().numpy()

    return encode


def caption_encoder(text_encoders: TextEncoders, device: torch.device) -> Callable[[str], CaptionEmbedding]:
    """A caption -> its embedding, float32; ``""`` means no caption, as in training."""
    text_encoders.to(device)

    def encode(caption: str) -> CaptionEmbedding:
        return text_encoders.encode([caption or None], device).embeddings()[0]

    return encode
