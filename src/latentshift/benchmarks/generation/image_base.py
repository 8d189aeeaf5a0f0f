"""The image model whose width all compared video models share: configurations on torch's meta device, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.noise import paper_scheduler
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.denoiser import wants_sizes
from latentshift.models.storage.families import FAMILIES, random_weights
from latentshift.models.storage.meta_init import meta_components
from latentshift.models.storage.model_paths import resolve_model
from latentshift.settings import check_frame_size
from latentshift.user_input.error_text import printable

_NUM_FRAMES, _GUIDANCE_SCALE = 16, 7.5  # Table 6
# Settings of a U-Net that takes more than latents, a timestep, a text, and SDXL's pooled text and sizes.
_MORE_INPUTS = ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


@dataclass(frozen=True)
class ImageBase:
    """An image model without weights.

    Attributes:
        unet: on the meta device, as are the others.
        vae: the autoencoder.
        text_encoders: one, or SDXL's two.
        tokenizers: of the text encoders; stand-ins for a family.
        scheduler: the paper's DDPM with the base's prediction type.
        num_frames: of its videos; of an image model the paper's.
        guidance_scale: likewise.
        side: of a frame, in pixels.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: tuple[nn.Module, ...]
    tokenizers: tuple[PreTrainedTokenizerBase, ...]
    scheduler: Any
    num_frames: int
    guidance_scale: float
    side: int

    def latent_shape(self, num_frames: int) -> tuple[int, int, int, int]:
        """(F, C, h, w)."""
        side = self.side // _scale(self.vae)
        return (num_frames, self.unet.config.in_channels, side, side)

    @property
    def sizes(self) -> tuple[int, ...]:
        """SDXL's conditions on sizes, in pixels: those of a picture that nothing was cut from."""
        return (self.side, self.side, 0, 0, self.side, self.side)

    def random_text(self, texts: int) -> TextCondition:
        """Conditions for so many texts of what the U-Net takes, on torch's device and in its default dtype."""
        encoders = TextEncoders(self.text_encoders, self.tokenizers)
        tokens = torch.randn(texts, encoders.length, self.unet.config.cross_attention_dim)
        if not wants_sizes(self.unet):
            return TextCondition(tokens)
        return TextCondition(tokens, torch.randn(texts, int(encoders.pooled_width or 0))).with_sizes(self.sizes)


def open_base(name: str, side: int | None = None) -> ImageBase:
    """An image model by name; only its configuration is read.

    Args:
        name: a family, or a model as for :func:`latentshift.models.storage.model_paths.resolve_model`.
        side: of a frame, in pixels; None: the model's.

    Raises:
        ValueError: if its configuration can't be read, for a U-Net that takes more than SDXL's, or for a size that it
            does not make.
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
    unet, vae = parts["unet"], parts["vae"]
    if any(getattr(unet.config, each, None) for each in _MORE_INPUTS):
        raise ValueError(
            f"the U-Net of {printable(name)} takes more than latents, a timestep, a text and SDXL's sizes, and "
            "diffusers' video U-Nets can't be built like that: choose a model of the families LDM, SD 1, SD 2 or SDXL"
        )
    if side is not None:
        check_frame_size(side, side, _scale(vae), len(unet.config.block_out_channels), "--size")
    suffixes = [suffix for suffix in ("", "_2") if parts.get(f"text_encoder{suffix}") is not None]
    return ImageBase(
        unet=unet,
        vae=vae,
        text_encoders=tuple(parts[f"text_encoder{suffix}"] for suffix in suffixes),
        tokenizers=tuple(parts[f"tokenizer{suffix}"] for suffix in suffixes),
        scheduler=paper_scheduler(prediction),
        num_frames=parts.get("num_frames", _NUM_FRAMES),
        guidance_scale=parts.get("guidance_scale", _GUIDANCE_SCALE),
        side=side or int(unet.config.sample_size * _scale(vae)),
    )


def _scale(vae: AutoencoderKL) -> int:
    """Pixels of a frame's side for each of its latents'."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))
