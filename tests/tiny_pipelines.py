"""Stock image pipelines of diffusers, of tiny real parts."""

from __future__ import annotations

import inspect
from pathlib import Path
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
from safetensors.torch import save_file
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

FACE = 6
"""Width of a face's embedding, for IP-Adapter FaceID."""

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


def face(seed: int) -> torch.Tensor:
    """(2, 1, D) for IP-Adapter FaceID: of no face, and of one."""
    embedding = torch.randn(1, 1, FACE, generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.zeros_like(embedding), embedding])


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


def with_ip_adapter(pipe: DiffusionPipeline, count: int = 1, kind: str = "plain") -> None:
    """Load one or several IP-Adapters of random weights, as ``load_ip_adapter`` would from files."""
    torch.manual_seed(0)
    if kind.startswith("faceid"):  # with its LoRAs
        pipe.load_ip_adapter(ip_adapter_state(pipe.unet, kind), "", "", image_encoder_folder=None)
        return
    pipe.register_modules(
        image_encoder=tiny_image_encoder(),
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}),
    )
    pipe.unet._load_ip_adapter_weights([ip_adapter_state(pipe.unet, kind) for _ in range(count)])


def ip_adapter_state(unet: UNet2DConditionModel, kind: str = "plain") -> dict[str, dict[str, torch.Tensor]]:
    """Random weights of an IP-Adapter for a U-Net and :func:`tiny_image_encoder`, as its file has them.

    Args:
        unet: that it is for.
        kind: as on the hub: ``"plain"``, ``"plus"``, ``"full"``, ``"faceid"`` (with LoRAs) or ``"faceid-plus"``.
    """
    width = unet.config.cross_attention_dim
    layers: dict[str, torch.Tensor] = {}
    for number, name in enumerate(unet.attn_processors):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        if not name.endswith("attn1.processor"):
            for part in ("to_k_ip", "to_v_ip"):
                layers[f"{number}.{part}.weight"] = torch.randn(attention.inner_dim, width)
        if kind.startswith("faceid"):
            for part, layer in {
                "q": attention.to_q,
                "k": attention.to_k,
                "v": attention.to_v,
                "out": attention.to_out[0],
            }.items():
                layers[f"{number}.to_{part}_lora.down.weight"] = torch.randn(2, layer.in_features)
                layers[f"{number}.to_{part}_lora.up.weight"] = torch.randn(layer.out_features, 2) / 8
    return {"image_proj": _PROJECTIONS[kind](width), "ip_adapter": layers}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.randn(outputs, inputs) / inputs**0.5, f"{name}.bias": torch.randn(outputs)}


def _norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}


def _resampler(width: int, hidden: int = 8) -> dict[str, torch.Tensor]:
    """Four layers of one head, whose width is 64."""
    state = _linear("proj_in", 16, hidden) | _linear("proj_out", hidden, width) | _norm("norm_out", width)
    for layer in range(4):
        state |= _norm(f"layers.{layer}.0.norm1", hidden) | _norm(f"layers.{layer}.0.norm2", hidden)
        state |= _norm(f"layers.{layer}.1.0", hidden)
        for name, shape in (
            ("0.to_q", (64, hidden)),
            ("0.to_kv", (128, hidden)),
            ("0.to_out", (hidden, 64)),
            ("1.1", (4 * hidden, hidden)),
            ("1.3", (hidden, 4 * hidden)),
        ):
            state[f"layers.{layer}.{name}.weight"] = torch.randn(shape) / shape[1] ** 0.5
    return state


def _plain(width: int) -> dict[str, torch.Tensor]:
    return _linear("proj", 16, 4 * width) | _norm("norm", width)


def _plus(width: int) -> dict[str, torch.Tensor]:
    return _resampler(width) | {"latents": torch.randn(1, 4, 8)}


def _full(width: int) -> dict[str, torch.Tensor]:
    return _linear("proj.0", 16, 16) | _linear("proj.2", 16, width) | _norm("proj.3", width)


def _faceid(width: int) -> dict[str, torch.Tensor]:
    return _linear("proj.0", FACE, 2 * FACE) | _linear("proj.2", 2 * FACE, 4 * width) | _norm("norm", width)


def _faceid_plus(width: int) -> dict[str, torch.Tensor]:
    resampler = {f"perceiver_resampler.{name}": value for name, value in _resampler(width).items()}
    return resampler | _linear("proj.0", FACE, 2 * FACE) | _linear("proj.2", 2 * FACE, 4 * 8) | _norm("norm", 8)


_PROJECTIONS = {"plain": _plain, "plus": _plus, "full": _full, "faceid": _faceid, "faceid-plus": _faceid_plus}


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


def write_ip_adapter(unet: Any, folder: Path, seed: int = 0, kind: str = "plain") -> dict[str, Any]:
    """As on the hub; what ``load_ip_adapter`` is to be called with."""
    torch.manual_seed(seed)
    state = ip_adapter_state(unet, kind)
    tensors = {f"{part}.{key}": value for part, own in state.items() for key, value in own.items()}
    (folder / "models").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "models" / f"adapter{seed}.safetensors")
    tiny_image_encoder().save_pretrained(folder / "models" / "image_encoder")
    return {"subfolder": "models", "weight_name": f"adapter{seed}.safetensors"}


def seeds(*numbers: int) -> list[torch.Generator]:
    """A generator for each number."""
    return [torch.Generator().manual_seed(number) for number in numbers]
