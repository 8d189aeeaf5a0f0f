"""Latent-VDM, the paper's baseline (Sec. 4.1): temporal self-attention instead of the shift.

After the spatial self-attention of each transformer block of a stock U-Net, each latent pixel attends to itself in all
frames of its video, with relative positions along time (Ho et al. 2022, "Video Diffusion Models"). The layers are a
model of their own beside the U-Net, whose parameters and keys stay as they are; at first they add nothing, so that the
video model begins as the image model.

Knows nothing of text, diffusion or pipelines. Legend of shapes: B videos, F frames, N latent pixels, C channels,
A heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from latentshift.frame_context import FrameContext, frame_context, register, uncompiled, unregister

_NAME = "temporal attention"


class TemporalSelfAttention(nn.Module):
    """Self-attention along time at each latent pixel: q, k, v and out of width C, and a bias for each distance.

    Args:
        width: C.
        heads: A, a divisor of C.
        max_distance: frames farther apart than this share the bias of this distance.
    """

    def __init__(self, width: int, heads: int, max_distance: int) -> None:
        super().__init__()
        self.heads = heads
        self.max_distance = max_distance
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.distance_bias = nn.Parameter(torch.zeros(heads, 2 * max_distance + 1))
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, hidden: Tensor, num_frames: int) -> Tensor:
        """The residual update of ``hidden``.

        Args:
            hidden: (B·F, N, C).
            num_frames: F ≥ 1; the batch must hold complete videos.

        Returns:
            (B·F, N, C).

        Raises:
            ValueError: if the batch does not divide into videos of ``num_frames``.
        """
        batch, pixels = hidden.shape[:2]
        if num_frames < 1 or batch % num_frames:
            raise ValueError(f"a batch of {batch} frames does not divide into videos of {num_frames} frames")
        rows = self.norm(hidden).unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)  # (B·N, F, C)
        query, key, value = (
            project(rows).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B·N, A, F, C/A)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        bias = self._bias(num_frames).to(query.dtype)
        attended = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out = self.to_out(attended.transpose(1, 2).flatten(2))
        return cast(Tensor, out.unflatten(0, (-1, pixels)).transpose(1, 2).flatten(0, 1))

    def _bias(self, num_frames: int) -> Tensor:
        """(1, A, F, F): of query frame i and key frame j, that of the distance j - i."""
        frames = torch.arange(num_frames, device=self.distance_bias.device)
        distance = (frames[None] - frames[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.distance_bias[:, distance + self.max_distance][None]


class TemporalAttention(ModelMixin, ConfigMixin):
    """The temporal layers of a U-Net, one for each transformer block, in the order of the blocks' names.

    Args:
        widths: C of each.
        heads: A of each: as many as the block's spatial attention has.
        max_distance: see :class:`TemporalSelfAttention`; 15 tells all distances of 16 frames apart.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, widths: Sequence[int], heads: Sequence[int], max_distance: int = 15) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TemporalSelfAttention(width, count, max_distance) for width, count in zip(widths, heads, strict=True)
        )

    @classmethod
    def for_unet(cls, unet: nn.Module, max_distance: int = 15) -> TemporalAttention:
        """New layers for a U-Net, on its device and in its dtype; their output is zero.

        Raises:
            ValueError: if the U-Net has no transformer blocks.
        """
        attentions = [block.attn1 for block in _transformer_blocks(unet).values()]
        widths = [attention.to_out[0].out_features for attention in attentions]
        layers = cls(widths=widths, heads=[attention.heads for attention in attentions], max_distance=max_distance)
        weight = cast(Tensor, attentions[0].to_out[0].weight)
        there = (layers.device, layers.dtype) == (weight.device, weight.dtype)
        return layers if there else layers.to(weight.device, weight.dtype)


def install_attention(unet: nn.Module, temporal: TemporalAttention) -> nn.Module:
    """Install temporal layers in a stock diffusers ``UNet2DConditionModel``, in place.

    Afterwards ``unet(sample, timestep, text, num_frames=16)`` is a video model, as after
    :func:`latentshift.shift.install`. The U-Net does not own the layers: they are trained, moved and saved by
    themselves.

    Returns:
        The same U-Net.

    Raises:
        ValueError: if temporal layers are installed already, or these are not of this U-Net.
    """
    blocks = _transformer_blocks(unet)
    wanted = [block.attn1.to_out[0].out_features for block in blocks.values()]
    if list(temporal.config.widths) != wanted:
        raise ValueError(
            f"these temporal layers are of another U-Net: their widths are {list(temporal.config.widths)}, and its "
            f"transformer blocks' {wanted}"
        )
    context = register(unet, _NAME, temporal)
    handles = []
    for block, layer in zip(blocks.values(), temporal.layers, strict=True):
        after = _AfterSpatialAttention(cast(TemporalSelfAttention, layer), context)
        handles.append(block.register_forward_pre_hook(after.take_residual, with_kwargs=True))
        handles.append(cast(nn.Module, block.attn1).register_forward_hook(after.add))
    object.__setattr__(uncompiled(unet), "_temporal_hooks", handles)
    return unet


def remove_attention(unet: nn.Module) -> nn.Module:
    """Remove the temporal layers, in place, which restores the image model bit for bit.

    Raises:
        ValueError: if there are none.
    """
    unregister(unet, _NAME)
    module = uncompiled(unet)
    for handle in module._temporal_hooks:  # type: ignore[union-attr]
        handle.remove()
    object.__delattr__(module, "_temporal_hooks")
    return unet


def attention_of(unet: nn.Module) -> TemporalAttention | None:
    """The temporal layers installed in this U-Net, or None."""
    context = frame_context(unet)
    return None if context is None else context.installed.get(_NAME)


class _AfterSpatialAttention:
    """h' = h + spatial(h), then h'' = h' + temporal(h'): the sum's second half is handed in with its first.

    The block adds what its spatial attention returns to its own input, so the input has to be known here.
    """

    def __init__(self, layer: TemporalSelfAttention, context: FrameContext) -> None:
        self.layer = layer
        self.context = context

    def take_residual(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.context.residual = args[0] if args else kwargs["hidden_states"]

    def add(self, attention: nn.Module, args: tuple[Any, ...], attended: Tensor) -> Tensor:
        residual, self.context.residual = self.context.residual, None
        if self.context.frames_independent or residual is None:
            return attended
        return attended + self.layer(residual + attended, self.context.num_frames)


def _transformer_blocks(unet: nn.Module) -> dict[str, Any]:
    # By name: every diffusers U-Net family (LDM, SD 1, SD 2, SDXL) builds from this one class.
    blocks = {name: module for name, module in unet.named_modules() if type(module).__name__ == "BasicTransformerBlock"}
    if not blocks:
        raise ValueError(f"{type(unet).__name__} has no transformer blocks to put temporal attention into")
    return blocks
