"""LoRAs of tiny real models, made by peft, and written as each of the usual trainers writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

RANK, ALPHA = 2, 6
UNET_TARGETS = ["to_q", "to_k", "to_out.0", "conv1", "ff.net.2"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]  # kohya's, all of them
STYLES = ("diffusers", "diffusers-alone", "diffusers-with-alpha", "kohya", "peft", "bare")
"""``diffusers-alone``: without metadata, with the alpha of the rank; ``diffusers-with-alpha``: alphas as tensors.
Of SDXL also ``kohya-original``."""


def add_random_lora(module: Any, targets: list[str], seed: int, *, alpha: int = ALPHA, name: str = "default") -> None:
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=alpha, target_modules=targets, init_lora_weights=False)
    module.add_adapter(config, adapter_name=name)


def add_to_all(pipe: Any, *, alpha: int = ALPHA, text: bool = True, seed: int = 5) -> None:
    """LoRAs of the U-Net and the text encoders of an image pipeline."""
    add_random_lora(pipe.unet, UNET_TARGETS, seed, alpha=alpha)
    for number, name in enumerate(("text_encoder", "text_encoder_2") if text else ()):
        if (encoder := getattr(pipe, name, None)) is not None:
            add_random_lora(encoder, TEXT_TARGETS, seed + 1 + number, alpha=alpha)


def _original_name(flat: str) -> str:
    """A layer's name in SDXL's original layout, which kohya's trainer keeps: of a U-Net with one layer a block."""
    rules = (
        (
            r"down_blocks_(\d)_(resnets|attentions)_0_",
            lambda b, kind: f"input_blocks_{1 + 2 * int(b)}_{kind == 'attentions':d}_",
        ),
        (r"mid_block_resnets_(\d)_", lambda j: f"middle_block_{2 * int(j)}_"),
        (r"mid_block_attentions_0_", lambda: "middle_block_1_"),
        (
            r"up_blocks_(\d)_(resnets|attentions)_(\d)_",
            lambda b, kind, j: f"output_blocks_{2 * int(b) + int(j)}_{kind == 'attentions':d}_",
        ),
    )
    for pattern, name in rules:
        if match := re.match(pattern, flat):
            return name(*match.groups()) + flat[match.end() :].replace("conv1", "in_layers_2")
    raise AssertionError(flat)


def write_lora(pipe: Any, folder: Path, style: str) -> Path:
    """Write the LoRAs of :func:`add_to_all` to a file; ``peft`` and ``bare`` hold the U-Net's alone."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in ("unet", "text_encoder", "text_encoder_2") if getattr(pipe, name, None) is not None]
    states = {
        name: {key: value.contiguous() for key, value in get_peft_model_state_dict(getattr(pipe, name)).items()}
        for name in names
        if hasattr(getattr(pipe, name), "peft_config")
    }
    path = folder / "pytorch_lora_weights.safetensors"
    if style.startswith("diffusers"):
        made = StableDiffusionXLPipeline if hasattr(pipe, "text_encoder_2") else StableDiffusionPipeline
        layers = {f"{name}_lora_layers": state for name, state in states.items()}
        if style == "diffusers":
            for name in states:
                layers[f"{name}_lora_adapter_metadata"] = getattr(pipe, name).peft_config["default"].to_dict()
        made.save_lora_weights(folder, **layers)
        if style == "diffusers-with-alpha":
            tensors = load_file(path)
            layers_of_file = {key.partition(".lora")[0] for key in tensors}
            save_file({**tensors, **{f"{layer}.alpha": torch.tensor(float(ALPHA)) for layer in layers_of_file}}, path)
        return path
    if style.startswith("kohya"):
        prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
        if "text_encoder_2" in names:
            prefixes["text_encoder"] = "lora_te1_"
        tensors = {}
        for name, state in states.items():
            for key, value in state.items():
                layer, _, kind = key.removesuffix(".weight").rpartition(".")
                layer = layer if name == "unet" or layer.startswith("text_model.") else f"text_model.{layer}"
                flat = layer.replace(".", "_")
                flat = prefixes[name] + (_original_name(flat) if style == "kohya-original" and name == "unet" else flat)
                tensors[f"{flat}.{'lora_down' if kind == 'lora_A' else 'lora_up'}.weight"] = value
                tensors[f"{flat}.alpha"] = torch.tensor(float(ALPHA))
        save_file(tensors, path)
        return path
    if style == "bare":
        pipe.unet.save_lora_adapter(folder, weight_name=path.name)
        return path
    clean = type(pipe.unet).from_config(pipe.unet.config)
    wrapped = get_peft_model(clean, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=UNET_TARGETS))
    own = wrapped.state_dict()
    for key, value in states["unet"].items():
        layer, _, kind = key.removesuffix(".weight").rpartition(".")
        own[f"base_model.model.{layer}.{kind}.default.weight"].copy_(value)
    wrapped.save_pretrained(folder)
    return folder / "adapter_model.safetensors"
