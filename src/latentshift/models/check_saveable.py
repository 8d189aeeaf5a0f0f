"""What has to hold of a model's parts before they are saved, so that the folder can be loaded again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from latentshift.frame_context import uncompiled


def check_saveable(parts: dict[str, nn.Module]) -> None:
    """Refuse parts whose saved weights would not be those that their saved settings describe.

    Such are a U-Net or text encoder with a LoRA in it, whether fused or not (its layers are named otherwise), attention
    processors with weights, layers that were exchanged by hand, and weights that are offloaded.

    Args:
        parts: name in the pipeline -> module.

    Raises:
        ValueError: naming the first part, what keeps it from being saved, and what to do.
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
            continue  # its weights are stored in a form of their own, which the settings tell
        there, described = module.state_dict(), _described(module).state_dict()
        for key in sorted(there.keys() | described.keys()):
            if key not in described or key not in there or there[key].shape != described[key].shape:
                raise ValueError(
                    f"the {name} is not what its settings describe ({key} differs), and its folder could not be loaded "
                    "as it is: undo what was added to its layers, or change its settings too, before saving"
                )


def _adapters(module: nn.Module) -> str:
    """Names of the adapters whose layers wrap those of a module; a fused one is among them until it is unloaded."""
    names = dict.fromkeys(getattr(module, "peft_config", None) or {})
    for each in module.modules():
        if hasattr(each, "base_layer"):
            names |= dict.fromkeys(getattr(each, "scaling", {}))
    return ", ".join(map(str, names))


def _described(module: Any) -> nn.Module:
    with torch.device("meta"):
        if isinstance(module, PreTrainedModel):
            return type(module)(module.config)
        built: nn.Module = type(module).from_config(module.config)
    return built
