"""Models that latentshift can't start from: one sentence on each, which says what to do instead."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import TextToVideoSDPipeline, UNet3DConditionModel
from safetensors.numpy import save_file

import latentshift
from latentshift.models.adapters.lora_file import lora_layers
from latentshift.models.storage.original_layout import UNET_PREFIX, find_original_family
from latentshift.models.storage.other_models import foreign_architecture, foreign_lora, foreign_pipeline, no_model
from tiny_models import base_scheduler, tiny_clip, tiny_tokenizer, tiny_vae

INSTEAD = "run it with diffusers, or choose a model of SD 1.x, SD 2.x, SDXL or LDM"
TRANSFORMER = f", whose denoiser is a transformer, and the temporal shift needs a U-Net: {INSTEAD}"
STARTS = "latentshift starts from LDMTextToImagePipeline, StableDiffusionPipeline, StableDiffusionXLPipeline: "
VIDEO = f", which is a video model already, with temporal layers of its own: {INSTEAD}"
NO_UNET = f", which has no U-Net that the temporal shift could act in: {INSTEAD}"
IMAGE_UNET = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
CALL = "load it with diffusers and call latentshift.video(pipe)"
SAVE = "save its parts as one of these (from_pipe, save_pretrained)"

FOLDERS: list[tuple[str, dict[str, str | None], str]] = [
    ("StableDiffusion3Pipeline", {"transformer": "SD3Transformer2DModel", "vae": "AutoencoderKL"}, TRANSFORMER),
    ("WanPipeline", {"transformer": None, "transformer_2": "WanTransformer3DModel"}, TRANSFORMER),
    ("QwenImagePipeline", {"transformer": "QwenImageTransformer2DModel"}, TRANSFORMER),
    ("StableVideoDiffusionPipeline", {"unet": "UNetSpatioTemporalConditionModel", "vae": "AutoencoderKL"}, VIDEO),
    ("TextToVideoSDPipeline", {"unet": "UNet3DConditionModel", "vae": "AutoencoderKL"}, VIDEO),
    ("AnimateDiffPipeline", {**IMAGE_UNET, "motion_adapter": "MotionAdapter"}, VIDEO),
    ("StableCascadeDecoderPipeline", {"decoder": "StableCascadeUNet", "vqgan": "PaellaVQModel"}, NO_UNET),
    (
        "KandinskyV22Pipeline",
        {"unet": "UNet2DConditionModel", "movq": "VQModel"},
        f", whose U-Net is for another autoencoder (movq); {STARTS}{INSTEAD}",
    ),
    (
        "IFPipeline",
        {"unet": "UNet2DConditionModel", "transformer": None},
        f", whose U-Net works on pixels, without an autoencoder; {STARTS}{INSTEAD}",
    ),
    ("LatentConsistencyModelPipeline", IMAGE_UNET, f"; {STARTS}{CALL}"),
    ("StableDiffusionControlNetPipeline", IMAGE_UNET, f"; {STARTS}{SAVE}, or {CALL}"),
    ("StableDiffusionPanoramaPipeline", IMAGE_UNET, f"; {STARTS}{SAVE}"),
    ("KolorsPipeline", IMAGE_UNET, f"; {STARTS}{INSTEAD}"),
]


@pytest.mark.parametrize(("kind", "parts", "sentence"), FOLDERS, ids=[kind for kind, _, _ in FOLDERS])
def test_a_folder(kind: str, parts: dict[str, str | None], sentence: str) -> None:
    index: dict[str, Any] = {"_class_name": kind, "_diffusers_version": "0.42.1"}
    index |= {name: [part and "diffusers", part] for name, part in parts.items()}
    assert foreign_pipeline("folder", index) == f"folder holds a {kind}{sentence}"


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (
            ["double_blocks.0.img_attn.norm.key_norm.scale", "txt_in.individual_token_refiner.blocks.0.a"],
            "HunyuanVideo",
        ),
        ([f"{UNET_PREFIX}double_blocks.0.img_attn.norm.key_norm.scale"], "Flux"),
        ([f"{UNET_PREFIX}joint_blocks.0.context_block.attn.qkv.weight"], "SD 3"),
        (["model.double_layers.0.attn.w2q.weight"], "AuraFlow"),
        (["blocks.0.cross_attn.norm_k.weight", "blocks.0.self_attn.q.weight"], "Wan"),
        (["blocks.0.attn.qkv_x.weight"], "Mochi"),
        (["blocks.0.cross_attn.q_linear.weight"], "PixArt or Sana"),
        ([f"{UNET_PREFIX}patchify_proj.weight", f"{UNET_PREFIX}transformer_blocks.0.a"], "LTX-Video"),
        (["cap_embedder.0.weight"], "Lumina or Z-Image"),
        (["transformer_blocks.0.img_mlp.net.0.proj.weight"], "Qwen-Image"),
        ([f"{UNET_PREFIX}input_blocks.1.0.time_stack.in_layers.0.weight"], "Stable Video Diffusion"),
        (["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"], "AnimateDiff"),
        (["clip_txt_mapper.weight"], "Stable Cascade"),
    ],
)
def test_a_file(names: list[str], what: str) -> None:
    sentence = foreign_architecture(names, UNET_PREFIX)
    assert sentence is not None and what in sentence and sentence.endswith(INSTEAD)


def test_files_that_are_no_models() -> None:
    for name in ("lora_unet_conv_in.lora_up.weight", "unet.conv_in.lora_A.weight"):
        assert "a LoRA, and not of a model: give the file to latentshift generate by --lora" in (no_model([name]) or "")
    assert "the tensors of a ControlNet" in (no_model(["control_model.time_embed.0.weight"]) or "")
    ours = ["model.diffusion_model.input_blocks.1.0.in_layers.0.weight", "cond_stage_model.transformer.text_model.x"]
    assert no_model(ours) is None and foreign_architecture(ours, UNET_PREFIX) is None


LORAS = [
    ("transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight", "of a transformer (Flux"),
    ("transformer_blocks.0.attn.add_q_proj.lora_A.weight", "of a transformer (Flux, SD 3, Qwen-Image"),
    ("base_model.model.transformer_blocks.3.attn1.to_q.lora_A.weight", "of a transformer (Flux, SD 3, Qwen-Image"),
    ("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", "of a transformer (Flux, HunyuanVideo"),
    ("double_blocks.0.processor.proj_lora1.down.weight", "of a transformer (Flux, HunyuanVideo"),
    ("lycoris_transformer_blocks_0_attn_to_k.lokr_w1", "of a transformer (Flux, SD 3, Qwen-Image"),
    ("lora_unet_joint_blocks_0_context_block_attn_proj.alpha", "of a transformer (SD 3)"),
    ("diffusion_model.blocks.0.self_attn.q.lora_B.weight", "of a transformer (Wan"),
    ("transformer.blocks.12.attn1.to_q.lora_B.weight", "of a transformer (Wan"),
    ("diffusion_model.layers.0.attention.qkv.lora_A.weight", "of a transformer (Lumina or Z-Image)"),
    ("lora_prior_unet_down_blocks_0_1_kv_mapper_1.lora_down.weight", "of Stable Cascade"),
    (
        "unet.mid_block.motion_modules.0.temporal_transformer.proj_in.lora_A.weight",
        "of the temporal layers of AnimateDiff",
    ),
]


@pytest.mark.parametrize(("name", "models"), LORAS)
def test_a_lora_of_another_family(name: str, models: str) -> None:
    """As an adapter, and in place of a model."""
    with pytest.raises(ValueError, match=f"^x is a LoRA {re.escape(models)}.* or choose one of SD 1.x, SD 2.x"):
        lora_layers({name: (2, 8)}, "x")
    with pytest.raises(ValueError, match=f"tensors of a LoRA {re.escape(models)}.*, and not of a model: use"):
        find_original_family([name])


def test_loras_of_our_families_are_not_taken_for_others() -> None:
    attention = "attentions_0_transformer_blocks_0_attn1_to_q"
    for name in (
        f"lora_unet_down_blocks_0_{attention}.lora_down.weight",
        f"lora_unet_input_blocks_4_1_{attention}.alpha",
        "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "base_model.model.conv_in.lora_A.weight",
        "transformer_blocks.0.attn.to_q.weight",  # a model's own
    ):
        assert foreign_lora([name]) is None, name


def test_the_command_line_says_it(cli: Any) -> None:
    Path("cascade").mkdir()
    index = {"_class_name": "StableCascadeDecoderPipeline", "decoder": ["stable_cascade", "StableCascadeUNet"]}
    Path("cascade/model_index.json").write_text(json.dumps(index))
    for words in (("generate", "a star", "--model", "cascade"), ("init", "--base", "cascade", "-o", "new")):
        code, _, errors = cli(*words)
        assert code == 1 and f"cascade holds a StableCascadeDecoderPipeline{NO_UNET}" in errors
    save_file({"unet.conv_in.lora_A.weight": np.zeros(1)}, "style.safetensors")
    code, _, errors = cli("convert", "style.safetensors", "-o", "new")
    assert code == 1 and "style.safetensors: these are the tensors of a LoRA" in errors and not Path("new").exists()
    save_file({LORAS[0][0]: np.zeros((2, 8))}, "flux.safetensors")
    for words in (
        ("generate", "a star", "--lora", "flux.safetensors"),
        ("convert", "flux.safetensors"),
        ("init", "--base", "flux.safetensors"),
    ):
        code, _, errors = cli(*words, "-o", "new")
        assert code == 1 and "a LoRA of a transformer (Flux or another of its layout)" in errors, errors
        assert not Path("new").exists()


def test_a_video_pipeline_of_diffusers() -> None:
    blocks = {"down_block_types": ("DownBlock3D",), "up_block_types": ("UpBlock3D",), "block_out_channels": (32,)}
    unet = UNet3DConditionModel(**blocks, layers_per_block=1, cross_attention_dim=16, attention_head_dim=4)
    parts = {"text_encoder": tiny_clip(), "tokenizer": tiny_tokenizer(), "vae": tiny_vae()}
    pipe = TextToVideoSDPipeline(unet=unet, scheduler=base_scheduler(), **parts)
    with pytest.raises(
        ValueError, match=r"TextToVideoSDPipeline makes videos by temporal layers of its own, and .* or"
    ):
        latentshift.video(pipe)
