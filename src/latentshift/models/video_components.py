"""What a video pipeline is made of, beyond an image pipeline: its temporal method, text encoders as one, and frames.

Knows nothing of a call, nor of how components are loaded and saved.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from latentshift.diffusion.samplers import check_linear
from latentshift.models.autoencoder import decode_videos
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.decoded_frames import check_finite
from latentshift.models.denoiser import wants_sizes
from latentshift.models.latent_vdm import TemporalAttention, attention_of, install_attention, remove_attention
from latentshift.models.storage.model_config import check_pipeline_settings
from latentshift.renamed import warn_renamed
from latentshift.settings import METHODS, ShiftConfig, method_name
from latentshift.shift import install, remove, shift_of


class VideoComponents(DiffusionPipeline):
    """Components of ``LatentShiftPipeline``, whose ``__init__`` names them, and settings that change between calls."""

    @property
    def method(self) -> str:
        """The temporal method: one of ``METHODS``, or ``"latent-shift and latent-vdm"``."""
        return method_name(shift=self.config.shift is not None, attention=self.temporal is not None)

    @property
    def temporal_parameters(self) -> int:
        """The number of parameters added to the image model: none with the shift."""
        with torch.device("meta"):
            image_model = type(self.unet).from_config(self.unet.config)
        models = (self.unet, image_model, self.temporal)
        video, image, beside = (
            0 if each is None else sum(value.numel() for value in each.parameters()) for each in models
        )
        return video - image + beside

    def set_method(self, method: str) -> None:
        """Switch to the paper's method, its baseline, or independent frames.

        Existing shift settings and temporal layers are kept; otherwise the shift has the paper's settings, and temporal
        layers are new and untrained, and change nothing yet.

        Args:
            method: one of ``METHODS``.

        Raises:
            ValueError: for an unknown method, or if it can't be installed on the U-Net.
        """
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
        temporal = None
        if method == "latent-vdm":
            temporal = self.temporal or TemporalAttention.for_unet(self.unet)
        self.set_temporal(temporal)
        self.set_shift((self.config.shift or {}) if method == "latent-shift" else None)

    def set_temporal(self, temporal: TemporalAttention | None) -> None:
        """Replace the temporal layers, or remove them (None).

        Raises:
            ValueError: if the layers do not fit the U-Net; nothing is changed then.
        """
        installed = attention_of(self.unet)
        if installed is not None:
            remove_attention(self.unet)
        try:
            if temporal is not None:
                install_attention(self.unet, temporal)
        except ValueError:
            if installed is not None:
                install_attention(self.unet, installed)
            raise
        self.register_modules(temporal=temporal)

    def set_shift(self, shift: dict[str, Any] | None) -> None:
        """Install the temporal shift with new settings, or remove it (None); weights are not changed.

        Args:
            shift: fields of :class:`latentshift.settings.ShiftConfig`, e.g. ``{"padding": "circular"}`` for loops.

        Raises:
            ValueError: for invalid settings.
        """
        config = None if shift is None else ShiftConfig.from_dict(shift)
        installed = shift_of(self.unet)
        if installed is not None:
            remove(self.unet)
        try:
            if config is not None:
                install(self.unet, config)
        except ValueError:
            if installed is not None:
                install(self.unet, installed)
            raise
        self.register_to_config(shift=None if config is None else config.to_dict())

    def set_noise_share(self, noise_share: float) -> None:
        """Change how much of the noise frames share, from the next call on; weights are not changed.

        Args:
            noise_share: a ≥ 0: neighbouring frames' noise has the correlation a² / (1 + a²). A model is to be sampled
                as it was trained.

        Raises:
            ValueError: if it is negative or not finite, or the scheduler clips the predicted latents.
        """
        check_pipeline_settings(noise_share=noise_share)
        check_linear(self.scheduler, noise_share)
        self.register_to_config(noise_share=noise_share)

    @property
    def text_encoders(self) -> TextEncoders:
        """All text encoders and tokenizers as one module."""
        pairs = [(self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)]
        encoders, tokenizers = zip(*(pair for pair in pairs if pair[0] is not None), strict=True)
        return TextEncoders(encoders, tokenizers, zero_empty=self.config.force_zeros_for_empty_prompt)

    @property
    def sentences(self) -> TextEncoders:
        """The old name of ``text_encoders``."""
        warn_renamed("LatentShiftPipeline.sentences", "LatentShiftPipeline.text_encoders")
        return self.text_encoders

    @property
    def vae_scale_factor(self) -> int:
        """Downsampling factor of the autoencoder."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def sample_size(self) -> int:
        """Side of the frames, in pixels, that the U-Net was trained for."""
        return int(self.unet.config.sample_size * self.vae_scale_factor)

    def decode(self, latents: Tensor, decode_chunk_size: int | None = None) -> Tensor:
        """Decode scaled latents (B, F, C, h, w) to frames (B, F, 3, H, W) in [-1, 1], one video at a time.

        Raises:
            NotFiniteError: if the autoencoder's output is not finite.
        """
        upcast = wants_sizes(self.unet) and self.vae.config.force_upcast  # SDXL's
        frames = decode_videos(self.vae, latents, decode_chunk_size, upcast=upcast)
        check_finite(frames, "autoencoder")  # after clamping, infinite values would look white
        return frames.clamp(-1, 1)
