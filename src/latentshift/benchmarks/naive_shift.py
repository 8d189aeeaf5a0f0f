"""The temporal shift as one would write it first: a hook in front of each first convolution that assigns to slices.

It is what the package's own shift is timed beside, and, without a LoRA, equal to it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn


def install_naive_shift(unet: nn.Module, num_frames: int) -> None:
    """Shift in front of ``conv1`` of every ResNet block, in place, for batches of videos of ``num_frames``."""
    for block in (module for module in unet.modules() if type(module).__name__ == "ResnetBlock2D"):
        block.conv1.register_forward_pre_hook(partial(_shift_input, num_frames))  # type: ignore[union-attr]


def naive_shift(hidden: Tensor, num_frames: int) -> Tensor:
    """Eq. 3 of (B·F, C, H, W), as straight as it can be written."""
    frames = hidden.unflatten(0, (-1, num_frames))
    third = frames.shape[2] // 3
    shifted = torch.zeros_like(frames)
    shifted[:, 1:, :third] = frames[:, :-1, :third]
    shifted[:, :, third:-third] = frames[:, :, third:-third]
    shifted[:, :-1, -third:] = frames[:, 1:, -third:]
    return shifted.flatten(0, 1)


def _shift_input(num_frames: int, convolution: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (naive_shift(inputs[0], num_frames),)
