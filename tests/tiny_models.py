"""Tiny real models that the tests share: every class is the one that users load, only smaller."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from transformers import CLIPTextConfig, CLIPTextModel

from latentshift.models.autoencoder import build_autoencoder
from latentshift.models.conditioning.text import build_word_tokenizer
from latentshift.models.storage.families import FAMILIES, unet_config

TEXT_WIDTH = 16
TOKENS = 12


def tiny_unet(seed: int = 0, **changes: object) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**{**settings, **changes}).eval()


def vdm_parameters(*widths: int) -> int:
    """Of temporal attention in blocks of these widths: to_q, to_k, to_v and to_out, whose bias is one more width beside
    two of the norm, and biases of two heads for the distances -15 … 15."""
    return sum(4 * width**2 + 3 * width + 2 * 31 for width in widths)


TINY_VDM_PARAMETERS = vdm_parameters(8, 8, 8, 16)
"""Of :func:`tiny_unet`."""

ONE_LEVEL: dict[str, object] = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}
"""Changes of :func:`tiny_unet` where a test needs a U-Net, and not one that scales."""
ONE_LEVEL_VDM_PARAMETERS = vdm_parameters(8, 8, 8, 8)

SMALLEST: dict[str, object] = {**ONE_LEVEL, "mid_block_type": None, "up_block_types": ("UpBlock2D",)}
"""Changes of :func:`tiny_unet` where a test trains or loads a U-Net many times: one transformer, no middle."""
SMALLEST_VDM_PARAMETERS = vdm_parameters(8)


def tiny_vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = build_autoencoder(channels=(8, 8), layers_per_block=1, latent_channels=4, norm_groups=4, size=16)
    return vae.eval()


def sprites_vae() -> AutoencoderKL:
    """Which makes latents of 8 × 8 of the sprites' frames of 32 pixels: attention takes a sixteenth of 16 × 16."""
    torch.manual_seed(0)
    vae = build_autoencoder(channels=(4, 4, 8), layers_per_block=1, latent_channels=4, norm_groups=4, size=32)
    return vae.eval()


def stock_vae(seed: int = 0) -> AutoencoderKL:
    """With attention in its middle, as Stable Diffusion's."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


def tiny_tokenizer():
    return build_word_tokenizer(["red", "star", "circling", "on", "black", "background"], TOKENS)


TINY_BERT = {
    "vocab_size": len(tiny_tokenizer()),
    "max_position_embeddings": TOKENS,
    "encoder_layers": 2,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "head_dim": 8,
    "d_model": TEXT_WIDTH,
}


def tiny_bert(seed: int = 0, **changes: object) -> LDMBertModel:
    torch.manual_seed(seed)
    return LDMBertModel(LDMBertConfig(**{**TINY_BERT, **changes})).eval()


def tiny_clip(seed: int = 0, kind: type[torch.nn.Module] = CLIPTextModel) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=2,
        eos_token_id=3,
    )
    return kind(config).eval()


def base_scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=8.5e-4,
        beta_end=1.2e-2,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction_type,
    )


def narrow_family_unet(name: str) -> UNet2DConditionModel:
    """Of a family's blocks, narrow."""
    config = unet_config(FAMILIES[name])
    widths = (8, 8, 16, 16)[: len(config["block_out_channels"])]
    narrow = {"block_out_channels": widths, "attention_head_dim": 2, "norm_num_groups": 4}
    narrow["cross_attention_dim"] = TEXT_WIDTH
    if name == "sdxl":
        narrow["addition_time_embed_dim"], narrow["projection_class_embeddings_input_dim"] = 4, TEXT_WIDTH + 6 * 4
    torch.manual_seed(0)
    return UNet2DConditionModel(**{**config, **narrow})
