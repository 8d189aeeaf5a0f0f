"""Stock image pipelines of diffusers, of tiny real parts."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DiffusionPipeline,
    LCMScheduler,
    T2IAdapter,
    UNet2DConditionModel,
)
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from latentshift.models.conditioning.text import build_word_tokenizer
from tiny_models import TEXT_WIDTH, TINY_BERT, base_scheduler, stock_vae, tiny_clip, tiny_tokenizer, tiny_unet

SIDE = 16
"""Of pictures, in pixels: latents of 8 × 8."""

SDXL_UNET: dict[str, object] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * 4,
}


SCHEDULE = {key: base_scheduler().config[key] for key in ("beta_start", "beta_end", "beta_schedule")}


def picture(seed: int, size: int = SIDE, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def clip(seed: int, count: int) -> list[Image.Image]:
    return [picture(100 * seed + index) for index in range(count)]


def mask(seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
    return Image.fromarray(255 * values)


def tiny_controlnet(unet: UNet2DConditionModel, seed: int = 0) -> ControlNetModel:
    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):  # zeros in a new one: no condition acts
        torch.nn.init.normal_(block.weight, std=0.5)
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.5)
    return net.eval()


def tiny_image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
        projection_dim=16,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def tiny_pipeline(kind: str, **parts: Any) -> DiffusionPipeline:
    """A pipeline of diffusers by its class's name, of tiny parts of the family that the name tells.

    Args:
        kind: ``"StableDiffusionXLControlNetPipeline"``, say.
        **parts: components and settings of the class that replace these.
    """
    if kind == "StableDiffusionXLModularPipeline":
        return _modular_pipeline()
    made = getattr(diffusers, kind)
    is_xl = "XL" in kind
    channels = 9 if parts.pop("nine_channels", False) else 8 if "Pix2Pix" in kind else 4
    unet = parts.pop("unet", None) or tiny_unet(in_channels=channels, **(SDXL_UNET if is_xl else {}))
    defaults: dict[str, Any] = {
        "vae": stock_vae(),
        "text_encoder": tiny_clip(),
        "tokenizer": tiny_tokenizer(),
        "scheduler": base_scheduler(),
        "unet": unet,
    }
    if is_xl:
        defaults |= {
            "text_encoder_2": tiny_clip(1, CLIPTextModelWithProjection),
            "tokenizer_2": tiny_tokenizer(),
            "add_watermarker": False,
        }
    else:
        defaults |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if "LatentConsistency" in kind:
        defaults |= {"unet": tiny_unet(time_cond_proj_dim=8), "scheduler": LCMScheduler(**SCHEDULE)}
    if "LDM" in kind:
        bert = LDMBertModel(LDMBertConfig(**{**TINY_BERT, "max_position_embeddings": 77})).eval()
        defaults |= {"vqvae": stock_vae(), "bert": bert, "tokenizer": build_word_tokenizer(["red", "star"], 77)}
    if "ControlNetUnion" in kind:
        defaults["controlnet"] = tiny_controlnet_union(unet)
    elif "ControlNet" in kind:
        defaults["controlnet"] = tiny_controlnet(unet)
    if "Adapter" in kind:
        defaults["adapter"] = tiny_adapter(unet)
    accepted = made.__init__.__annotations__
    pipe = made(**{name: value for name, value in {**defaults, **parts}.items() if name in accepted})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_adapter(unet: UNet2DConditionModel, seed: int = 0) -> T2IAdapter:
    torch.manual_seed(seed)
    channels = list(unet.config.block_out_channels)
    return T2IAdapter(in_channels=3, channels=channels, num_res_blocks=1, downscale_factor=2).eval()


def with_ip_adapter(pipe: DiffusionPipeline, count: int = 1) -> None:
    """Load one or several IP-Adapters of random weights, as ``load_ip_adapter`` would from files."""
    torch.manual_seed(0)
    pipe.register_modules(
        image_encoder=tiny_image_encoder(),
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
    )
    pipe.unet._load_ip_adapter_weights([ip_adapter_state(pipe.unet) for _ in range(count)])


def ip_adapter_state(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    """Random weights of an IP-Adapter for a U-Net and :func:`tiny_image_encoder`, as its file has them."""
    width = unet.config.cross_attention_dim
    layers: dict[str, torch.Tensor] = {}
    number = 1
    for name in unet.attn_processors:
        if not name.endswith("attn1.processor"):
            inner = unet.get_submodule(name.removesuffix(".processor")).inner_dim
            for part in ("to_k_ip", "to_v_ip"):
                layers[f"{number}.{part}.weight"] = torch.randn(inner, width)
            number += 2
    projection = {
        "proj.weight": torch.randn(4 * width, 16),
        "proj.bias": torch.randn(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {"image_proj": projection, "ip_adapter": layers}


def tiny_controlnet_union(unet: UNet2DConditionModel) -> ControlNetUnionModel:
    torch.manual_seed(0)
    shared = {
        name: value for name, value in unet.config.items() if name in inspect.signature(ControlNetUnionModel).parameters
    }
    net = ControlNetUnionModel(
        **{
            **shared,
            "conditioning_embedding_out_channels": (4, 8),
            "num_trans_channel": unet.config.block_out_channels[0],
            "num_proj_channel": unet.config.block_out_channels[0],
            "num_trans_head": 2,
        }
    )
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(block.weight, std=0.5)
    return net.eval()


def _modular_pipeline() -> Any:
    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    stock = tiny_pipeline("StableDiffusionXLPipeline")
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    pipe.update_components(**{name: getattr(stock, name) for name in names})
    pipe.set_progress_bar_config(disable=True)
    return pipe
