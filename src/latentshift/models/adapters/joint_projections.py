"""Attention's joint projections (``fuse_qkv_projections``): copies of the weights, which adapters do not reach.

A layer that was fused calls ``to_qkv`` or ``to_kv`` in place of the layers that they were made of. So what is added to
those, or merged into them, would have no effect; and what is on them is no part of the copy.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, FusedAttnProcessor2_0
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from latentshift.frame_context import uncompiled
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


def check_adapters_act(unet: nn.Module) -> None:
    """Refuse to call a U-Net in which an adapter would have no effect, because its attention was fused or changed.

    Stock pipelines fuse and load in any order and say nothing. Where nothing is fused this looks at no weight.

    Raises:
        ValueError: for a LoRA beside joint projections, projections that are not those of the weights now, or an
            IP-Adapter whose attention was replaced.
    """
    unet = uncompiled(unet)
    processors = getattr(unet, "attn_processors", {})
    if adapter_layers(unet) is not None and any(
        name.endswith("attn2.processor") and isinstance(each, (AttnProcessor, AttnProcessor2_0, FusedAttnProcessor2_0))
        for name, each in processors.items()
    ):
        raise ValueError(
            "an IP-Adapter is loaded, and fuse_qkv_projections or unfuse_qkv_projections has replaced its attention: "
            "call unfuse_qkv_projections and unload_ip_adapter, and load it again"
        )
    for name, processor in processors.items():
        if isinstance(processor, FusedAttnProcessor2_0):
            _check_joint(unet.get_submodule(name.removesuffix(".processor")))


def _check_joint(attention: Any) -> None:
    """Refuse an attention whose joint projection lacks what its own projections have."""
    cross = bool(attention.is_cross_attention)
    joint = attention.to_kv if cross else attention.to_qkv
    parts = [getattr(attention, name) for name in (("to_k", "to_v") if cross else ("to_q", "to_k", "to_v"))]
    for part in parts:
        if isinstance(part, BaseTunerLayer) and part.active_adapters and not (part.disable_adapters or part.merged):
            raise ValueError(
                "a LoRA in the attention has no effect beside fuse_qkv_projections: call unfuse_qkv_projections, or "
                "merge it before (fuse_lora, unload_lora_weights, and then fuse_qkv_projections)"
            )
    own = [part.weight for part in parts]
    if joint.weight.is_meta or any(each.is_meta for each in own):  # offloaded, and not to be had here
        return
    if any(
        not torch.equal(copied, each)
        for copied, each in zip(joint.weight.split([len(each) for each in own]), own, strict=True)
    ):
        raise ValueError(
            "the attention's weights were changed after fuse_qkv_projections, as by fuse_lora, and its copies not: "
            "call unfuse_qkv_projections, and then fuse_qkv_projections again"
        )
