"""One run on one process or on several: the accelerate object, shares of a batch, and sharded weights (torch's FSDP2).

Knows nothing of optimizers or files.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, ProjectConfiguration
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from latentshift.training.recipes.settings import ComputeSettings

# By class name: what all diffusers U-Nets and autoencoders, and the text encoders, are built from.
BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock", "LDMBertEncoderLayer", "CLIPEncoderLayer")
RANK_TIMEOUT = "compute.rank_timeout"


def make_accelerator(
    compute: ComputeSettings, trackers: Sequence[str] = (), tracker_folder: Path | None = None
) -> Accelerator:
    """The accelerate object for a run's compute settings.

    Args:
        compute: device, precision and threads.
        trackers: names of accelerate's trackers that the run logs to.
        tracker_folder: where trackers that write files put them.
    """
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    if compute.device.startswith("cuda:"):
        torch.cuda.set_device(compute.device)
    AcceleratorState._reset_state()  # else a second run in one process could not choose again
    return Accelerator(
        mixed_precision="no" if compute.precision == "fp32" else compute.precision,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(logging_dir=None if tracker_folder is None else str(tracker_folder)),
        cpu=compute.device == "cpu",
        # A text encoder may hold a head that nothing uses.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=timedelta(seconds=compute.rank_timeout)),
        ],
    )


def split_batch(batch: Any, count: int, device: torch.device) -> list[Any]:
    """Equal micro-batches of a batch (a dataclass of tensors and text conditions, samples first), on a device."""
    chunks = {
        name: [each.to(device) for each in value.chunk(count)] if hasattr(value, "chunk") else [value] * count
        for name, value in vars(batch).items()
    }
    return [type(batch)(**{name: values[number] for name, values in chunks.items()}) for number in range(count)]


def any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Whether the flag is set in any process; to be called by all of them."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)))


def complete_last_collective(accelerator: Accelerator) -> None:
    """Wait until no process is still inside a collective; to be called by all of them before they end.

    A process that ends closes its connections, from which a slower one may still have to read its part of the last
    collective. Whoever has passed this barrier knows that all others have reached it, so everything before it is
    complete; that one of them is gone by then is no error.
    """
    if accelerator.num_processes > 1:
        with suppress(RuntimeError):
            accelerator.wait_for_everyone()


def shard_with_fsdp(objective: nn.Module, device: torch.device) -> nn.Module:
    """A copy of an objective whose weights are sharded over the processes' devices; to be called by all of them."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    copied = copy.deepcopy(objective)
    for module in list(copied.modules()):
        if type(module).__name__ in BLOCKS:
            fully_shard(module, mesh=mesh)
    fully_shard(copied, mesh=mesh)
    return copied


def block_sizes(objective: nn.Module) -> tuple[int, int]:
    """Parameters of the largest block, and of all that is in no block: what a process gathers in full at one time."""
    blocks = [module for module in objective.modules() if type(module).__name__ in BLOCKS]
    sizes = [sum(each.numel() for each in block.parameters()) for block in blocks]
    everything = sum(each.numel() for each in objective.parameters())
    return max(sizes, default=0), everything - sum(sizes)


def full_tensor(tensor: Tensor) -> Tensor:
    """The full value of a tensor that may be sharded; to be called by all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def distribute_like(value: Tensor, like: Tensor) -> Tensor:
    """A full tensor, which every process has, laid out as another: sharded, or in the same memory format."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)
