"""The image model whose width all compared video models share: configurations on torch's meta device, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from latentshift.diffusion.noise import paper_scheduler
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.storage.families import FAMILIES, random_weights
from latentshift.models.storage.meta_init import meta_components
from latentshift.models.storage.model_paths import resolve_model
from latentshift.user_input.error_text import printable

_NUM_FRAMES, _GUIDANCE_SCALE = 16, 7.5  # Table 6
# Settings of a U-Net that takes more than latents, a timestep and one text.
_MORE_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


@dataclass(frozen=True)
class ImageBase:
    """An image model without weights.

    Attributes:
        unet: on the meta device, as are the others.
        vae: the autoencoder.
        text_encoder: one.
        tokenizer: of the text encoder; a stand-in for a family.
        scheduler: the paper's DDPM with the base's prediction type.
        num_frames: of its videos; of an image model the paper's.
        guidance_scale: likewise.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: nn.Module
    tokenizer: PreTrainedTokenizerBase
    scheduler: Any
    num_frames: int
    guidance_scale: float

    @property
    def num_tokens(self) -> int:
        """L of a text."""
        return int(TextEncoders([self.text_encoder], [self.tokenizer]).length)

    @property
    def side(self) -> int:
        """Of a frame, in pixels."""
        return int(self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1))

    def latent_shape(self, num_frames: int) -> tuple[int, int, int, int]:
        """(F, C, h, w)."""
        side = self.unet.config.sample_size
        return (num_frames, self.unet.config.in_channels, side, side)


def open_base(name: str) -> ImageBase:
    """An image model by name; only its configuration is read.

    Args:
        name: a family, or a model as for :func:`latentshift.models.storage.model_paths.resolve_model`.

    Raises:
        ValueError: if its configuration can't be read, or for one that takes more than one text, as SDXL.
    """
    if name in FAMILIES:
        with torch.device("meta"):
            parts = random_weights(name)
        prediction = FAMILIES[name].prediction_type
    else:
        try:
            parts = meta_components(resolve_model(name))
        except OSError as error:
            raise ValueError(
                f"the configuration of {printable(name)} can't be read: {str(error).splitlines()[0]}"
            ) from None
        prediction = parts["scheduler"].config.prediction_type
    config = parts["unet"].config
    if parts.get("text_encoder_2") is not None or any(getattr(config, each, None) for each in _MORE_INPUTS):
        raise ValueError(
            f"{printable(name)} takes more than latents, a timestep and one text, and diffusers' video U-Nets can't be "
            "built like that: choose a model of the families LDM, SD 1 or SD 2"
        )
    return ImageBase(
        unet=parts["unet"],
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        scheduler=paper_scheduler(prediction),
        num_frames=parts.get("num_frames", _NUM_FRAMES),
        guidance_scale=parts.get("guidance_scale", _GUIDANCE_SCALE),
    )
