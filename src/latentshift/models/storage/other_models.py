"""Models that latentshift can't start from, and what to do with them instead: by the parts of a saved pipeline, and by
the tensors' names in a file. Imports nothing heavy, and reads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from latentshift.models.storage.tested_pipelines import TESTED
from latentshift.settings import PIPELINES

VIDEO_UNETS = ("I2VGenXLUNet", "UNet3DConditionModel", "UNetMotionModel", "UNetSpatioTemporalConditionModel")
"""diffusers' U-Nets with temporal layers of their own: of ModelScope, AnimateDiff, Stable Video Diffusion."""

_CHOOSE = "choose a model of SD 1.x, SD 2.x, SDXL or LDM"
_INSTEAD = f"run it with diffusers, or {_CHOOSE}"
_VIDEO = f"is a video model already, with temporal layers of its own: {_INSTEAD}"
_NO_UNET = f"has no U-Net that the temporal shift could act in: {_INSTEAD}"

# What the names of tensors begin with -> the models. The first that is found counts.
_TRANSFORMERS = {
    "txt_in.individual_token_refiner.": "HunyuanVideo",
    "double_blocks.": "Flux",
    "joint_blocks.": "SD 3",
    "double_layers.": "AuraFlow",
    "joint_transformer_blocks.": "AuraFlow",
    "blocks.0.self_attn.": "Wan",
    "blocks.0.attn.qkv_x.": "Mochi",
    "blocks.0.cross_attn.q_linear.": "PixArt or Sana",
    "patchify_proj.": "LTX-Video",
    "cap_embedder.": "Lumina or Z-Image",
    "visual_transformer_blocks.": "Kandinsky 5",
    "mixins.": "CogVideoX",
    "transformer_blocks.": "Qwen-Image, CogVideoX, LTX-Video or another in diffusers' layout",
}
_VIDEO_MODELS = {
    "input_blocks.1.0.time_stack.": "Stable Video Diffusion",
    "input_blocks.1.0.temopral_conv.": "ModelScope",  # spelled so in its files
    "down_blocks.0.motion_modules.": "AnimateDiff",
}
_CASCADE = ("clip_txt_mapper.", "down_blocks.1.0.channelwise.")
# In the names of a LoRA's tensors.
_LORA = ("lora_A.", "lora_B.", "lora_up.", "lora_down.", "lora.up.", "lora.down.", "lora_linear_layer.")
_OTHER_LORA = ("_lora1.", "_lora2.", "hada_", "lokr_")  # XLabs, LyCORIS
_LORA_WRAPPERS = re.compile(
    r"(base_model\.model\.)?(lora_unet_|lora_transformer_|lycoris_|(unet|transformer|diffusion_model|model)\.)*"
)
# What the names of layers begin with, after these, with dots or kohya's underscores -> the models of a LoRA.
_LORAS_OF_TRANSFORMERS = {
    r"(double_blocks|single_blocks)[._]\d": "Flux, HunyuanVideo or another of their layout",
    r"single_transformer_blocks[._]\d": "Flux or another of its layout",
    r"joint_blocks[._]\d": "SD 3",
    r"(double_layers|joint_transformer_blocks)[._]\d": "AuraFlow",
    r"blocks[._]\d+[._](self_attn|cross_attn|attn1|attn2|ffn)[._]": "Wan or another of its layout",
    r"layers[._]\d+[._](attention|feed_forward)[._]": "Lumina or Z-Image",
    r"visual_transformer_blocks[._]\d": "Kandinsky 5",
    r"transformer_blocks[._]\d": "Flux, SD 3, Qwen-Image, LTX-Video or another in diffusers' layout",
}
_MOTION_LORA = re.compile(r"(down_blocks|mid_block|up_blocks)[._](\d+[._])?motion_modules[._]")
_CONTROLNET = ("control_model.", "controlnet_cond_embedding.")
_WRAPPERS = ("model.", "diffusion_model.", "net.", "transformer.")  # before the names, in some files


def foreign_pipeline(path: str, index: Mapping[str, Any]) -> str:
    """Why latentshift can't start from a saved pipeline of another class, and what to do instead.

    Args:
        path: its folder or hub id.
        index: its ``model_index.json``: class and parts.
    """
    kind, known = index["_class_name"], ", ".join(sorted(PIPELINES[1:]))
    parts = {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    parts = {name: part for name, part in parts.items() if isinstance(part, str)}  # [null, null] where there is none
    unet, holds = parts.get("unet"), f"{path} holds a {kind}"
    if any(name.startswith("transformer") for name in parts):
        return f"{holds}, whose denoiser is a transformer, and the temporal shift needs a U-Net: {_INSTEAD}"
    if unet in VIDEO_UNETS or "motion_adapter" in parts:
        return f"{holds}, which {_VIDEO}"
    if unet == "UNet2DConditionModel" and (kind in TESTED or kind.startswith("StableDiffusion")):
        ways = ["save its parts as one of these (from_pipe, save_pretrained)"] * kind.startswith("StableDiffusion")
        ways += ["load it with diffusers and call latentshift.video(pipe)"] * (kind in TESTED)
        return f"{holds}; latentshift starts from {known}: {', or '.join(ways)}"
    if unet is None:
        return f"{holds}, which {_NO_UNET}"
    if "vae" not in parts and "vqvae" not in parts:
        what = "is for another autoencoder (movq)" if "movq" in parts else "works on pixels, without an autoencoder"
        return f"{holds}, whose U-Net {what}; latentshift starts from {known}: {_INSTEAD}"
    return f"{holds}; latentshift starts from {known}: {_INSTEAD}"


def foreign_architecture(names: Collection[str], prefix: str) -> str | None:
    """Why a file is of a model that latentshift can't start from, and what to do instead; None if it seems not to be.

    Args:
        names: of all its tensors.
        prefix: of a U-Net's in checkpoints of the original layout.
    """
    bare = {_without_wrappers(each.removeprefix(prefix)) for each in names}
    for beginning, model in _TRANSFORMERS.items():
        if any(each.startswith(beginning) for each in bare):
            return f"these are the tensors of a transformer ({model}), and the temporal shift needs a U-Net: {_INSTEAD}"
    for beginning, model in _VIDEO_MODELS.items():
        if any(each.startswith(beginning) for each in bare):
            return f"these are the tensors of {model}, which {_VIDEO}"
    if any(each.startswith(_CASCADE) for each in bare):
        return f"these are the tensors of Stable Cascade, which {_NO_UNET}"
    return None


def foreign_lora(names: Collection[str]) -> str | None:
    """Which other models a LoRA is of, in words that go on from "a LoRA"; None if it may be of a U-Net of ours.

    Args:
        names: of all its tensors, as any trainer has them.
    """
    layers = [_LORA_WRAPPERS.sub("", each, count=1) for each in names if _is_of_lora(each)]
    for beginning, models in _LORAS_OF_TRANSFORMERS.items():
        if any(re.match(beginning, each) for each in layers):
            return f"of a transformer ({models})"
    if any(each.startswith("lora_prior_unet_") for each in names):
        return "of Stable Cascade"
    if any(_MOTION_LORA.match(each) for each in layers):
        return "of the temporal layers of AnimateDiff"
    return None


def no_model(names: Collection[str]) -> str | None:
    """What a file without a whole model is for; None if that is not known."""
    if any(_is_of_lora(each) for each in names):
        if (other := foreign_lora(names)) is not None:
            return (
                f"these are the tensors of a LoRA {other}, and not of a model: use it with diffusers on its own base; "
                f"to start from, {_CHOOSE}"
            )
        return "these are the tensors of a LoRA, and not of a model: give the file to latentshift generate by --lora"
    if any(each.startswith(_CONTROLNET) for each in names):
        return (
            "these are the tensors of a ControlNet, and not of a model: load it with diffusers, in a pipeline of its "
            "base for latentshift.video(pipe)"
        )
    return None


def _is_of_lora(name: str) -> bool:
    return name.startswith("lora_") or any(mark in name for mark in (*_LORA, *_OTHER_LORA))


def _without_wrappers(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
