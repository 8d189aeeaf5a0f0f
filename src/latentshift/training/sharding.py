"""Weights in shares: each of several processes keeps a part of every tensor, and has the whole while it is needed.

Torch's FSDP2 (``fully_shard``), block by block. Knows nothing of optimizers or files.
"""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

# By name: what all diffusers U-Nets and autoencoders, and the text encoders, are built from.
BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock", "LDMBertEncoderLayer", "CLIPEncoderLayer")


def sharded(objective: nn.Module, device: torch.device) -> nn.Module:
    """A copy of an objective whose weights lie in shares on the processes' devices; to be called by all of them."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    copied = copy.deepcopy(objective)
    for module in list(copied.modules()):
        if type(module).__name__ in BLOCKS:
            fully_shard(module, mesh=mesh)
    fully_shard(copied, mesh=mesh)
    return copied


def block_sizes(objective: nn.Module) -> tuple[int, int]:
    """Parameters of the largest block, and of all that is in none: what is whole in a process at one time."""
    blocks = [module for module in objective.modules() if type(module).__name__ in BLOCKS]
    sizes = [sum(each.numel() for each in block.parameters()) for block in blocks]
    everything = sum(each.numel() for each in objective.parameters())
    return max(sizes, default=0), everything - sum(sizes)


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor that may lie in shares; to be called by all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def lay_out(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, laid out as another is: in shares, or in the same order in memory."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)
