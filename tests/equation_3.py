"""The shift as plain loops, which tests compare with."""

from __future__ import annotations

import torch

from latentshift.shift import ShiftConfig


def eq3(video: torch.Tensor, config: ShiftConfig) -> torch.Tensor:
    """Eq. 3 for one video (F, C, H, W), frame by frame and channel by channel."""
    frames, channels = video.shape[:2]
    share = channels // config.fold
    shifted = torch.zeros_like(video)
    for i in range(frames):
        for c in range(channels):
            offset = -1 if c < share else 1 if c >= channels - share else 0
            if config.direction == "first_from_future":
                offset = -offset
            elif config.direction == "past_only":
                offset = min(offset, 0)
            source = i + offset
            if config.padding == "circular":
                source %= frames
            elif config.padding == "replicate":
                source = min(max(source, 0), frames - 1)
            if 0 <= source < frames:
                shifted[i, c] = video[source, c]
    return shifted


def block_with_loops(block: torch.nn.Module, x: torch.Tensor, time: torch.Tensor, config: ShiftConfig) -> torch.Tensor:
    """A ResNet block of one video (F, C, H, W), written down, with the loop of Eq. 3 at its place."""

    def at(place: str, z: torch.Tensor) -> torch.Tensor:
        return eq3(z, config) if place == config.place else z

    silu = torch.nn.functional.silu
    norm1, norm2 = (
        torch.nn.GroupNorm(each.num_groups, each.num_channels, each.eps) for each in (block.norm1, block.norm2)
    )
    for norm, each in ((norm1, block.norm1), (norm2, block.norm2)):
        norm.weight, norm.bias = each.weight, each.bias
    x = at("block", x)
    hidden = block.conv1(at("conv1", silu(norm1(x)))) + block.time_emb_proj(silu(time))[:, :, None, None]
    hidden = block.conv2(at("conv2", silu(norm2(hidden))))
    return hidden + (x if block.conv_shortcut is None else block.conv_shortcut(x))
