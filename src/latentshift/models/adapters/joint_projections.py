"""Attention's joint projections (``fuse_qkv_projections``): copies of the weights, which adapters do not reach.

A layer that was fused calls ``to_qkv`` or ``to_kv`` in place of the layers that they were made of. So what is added to
those, or merged into them, would have no effect; and what is on them is no part of the copy.
"""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from latentshift.models.adapters.ip_adapter import adapter_layers

JOINT = ("to_qkv", "to_kv")


def check_can_be_fused(unet: Any) -> None:
    """Refuse to fuse the projections of a U-Net with adapters.

    Raises:
        ValueError: for LoRAs in its attention, or IP-Adapters.
    """
    if adapter_layers(unet) is not None:
        raise ValueError("fuse_qkv_projections would replace the IP-Adapters' attention: call unload_ip_adapter first")
    for layer in unet.modules():
        parts = (getattr(layer, name, None) for name in ("to_q", "to_k", "to_v"))
        if any(isinstance(part, BaseTunerLayer) for part in parts):
            raise ValueError(
                "fuse_qkv_projections would leave out the LoRA in the attention: call fuse_lora and then "
                "unload_lora_weights first"
            )


def check_not_fused(unet: nn.Module, what: str) -> None:
    """Refuse to change the weights of a U-Net whose projections are fused.

    Args:
        unet: of a pipeline.
        what: would have no effect, for the message.

    Raises:
        ValueError: if they are.
    """
    if any(getattr(layer, name, None) is not None for layer in unet.modules() for name in JOINT):
        raise ValueError(
            f"{what} would not reach the joint projections of fuse_qkv_projections: call unfuse_qkv_projections first"
        )
