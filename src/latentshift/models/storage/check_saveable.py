"""Checks before a model is saved, so that the folder can be loaded again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from latentshift.frame_context import uncompiled


def check_saveable(parts: dict[str, nn.Module]) -> None:
    """Refuse components whose saved weights would not match their saved configuration.

    Examples: a U-Net or text encoder with a LoRA, fused or not (its layers have other names), attention processors with
    weights, layers that were replaced by hand, and offloaded weights.

    Args:
        parts: name in the pipeline -> module.

    Raises:
        ValueError: naming the first such component, the reason, and what to do.
    """
    for name, part in parts.items():
        module: Any = uncompiled(part)
        if adapters := _adapters(module):
            remedy = (
                f"merge it first (pipeline.{name}.fuse_lora(), then pipeline.{name}.unload_lora()), or unload it alone"
                if hasattr(module, "unload_lora")
                else "merge or unload it first"
            )
            raise ValueError(f"the {name} has a LoRA in it ({adapters}), and its folder could not be loaded: {remedy}")
        if any(parameter.is_meta for parameter in module.parameters()):
            raise ValueError(f"the weights of the {name} are offloaded: call pipeline.remove_all_hooks() before saving")
        if getattr(module.config, "quantization_config", None) is not None:
            continue  # quantized weights have another form, recorded in the configuration
        actual, expected = module.state_dict(), _from_config(module).state_dict()
        for key in sorted(actual.keys() | expected.keys()):
            if key not in expected or key not in actual or actual[key].shape != expected[key].shape:
                raise ValueError(
                    f"the {name} does not match its configuration ({key} differs), and its folder could not be loaded "
                    "again: undo what was added to its layers, or change its configuration too, before saving"
                )


def _adapters(module: nn.Module) -> str:
    """Names of the adapters installed in a module, including fused ones until they are unloaded."""
    names = dict.fromkeys(getattr(module, "peft_config", None) or {})
    for each in module.modules():
        if hasattr(each, "base_layer"):
            names |= dict.fromkeys(getattr(each, "scaling", {}))
    return ", ".join(map(str, names))


def _from_config(module: Any) -> nn.Module:
    with torch.device("meta"):
        if isinstance(module, PreTrainedModel):
            return type(module)(module.config)
        built: nn.Module = type(module).from_config(module.config)
    return built
