"""One run on one process or on several: who does what, and what they share."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, ProjectConfiguration

from latentshift.training.recipe import AnyRecipe
from latentshift.training.termination import Termination

_PATIENCE = timedelta(days=30)  # of a process that waits for the others
_SETTLING = 0.5  # seconds


def accelerator_for(recipe: AnyRecipe) -> Accelerator:
    """The accelerate object that a recipe's compute settings ask for."""
    compute = recipe.compute
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    if compute.device.startswith("cuda:"):
        torch.cuda.set_device(compute.device)
    AcceleratorState._reset_state()  # else a second run in one process could not choose again
    precision = "no" if compute.precision == "fp32" else compute.precision
    return Accelerator(
        mixed_precision=precision,
        log_with=list(recipe.trackers) or None,
        project_config=ProjectConfiguration(logging_dir=str(recipe.output / "tensorboard")),
        cpu=compute.device == "cpu",
        # A text encoder may hold a head that nothing uses; one process may wait while another encodes the data.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


def parts_of_a_share(recipe: AnyRecipe, processes: int) -> int:
    """Into how many batches a process splits its share of a step's.

    Raises:
        ValueError: for a batch that can't be shared evenly, or not in batches of ``micro_batch_size``.
    """
    share, rest = divmod(recipe.batch_size, processes)
    if rest or not share:
        raise ValueError(f"a batch_size of {recipe.batch_size} can't be shared evenly by {processes} processes")
    micro = recipe.micro_batch_size or share
    parts, rest = divmod(share, micro)
    if rest or not parts:
        raise ValueError(
            f"the {share} samples that a process has of each batch don't divide into batches of {micro}; change "
            "micro_batch_size or batch_size"
        )
    return parts


def split(batch: Any, parts: int, device: torch.device) -> list[Any]:
    """Equal parts of a batch, on a device."""
    chunks = {
        name: [each.to(device) for each in value.chunk(parts)] if torch.is_tensor(value) else [value] * parts
        for name, value in vars(batch).items()
    }
    return [type(batch)(**{name: values[number] for name, values in chunks.items()}) for number in range(parts)]


def any_process(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any process is asked."""
    if accelerator.num_processes == 1:
        return asked
    return bool(accelerator.reduce(torch.tensor(float(asked), device=accelerator.device)))


def settle(accelerator: Accelerator) -> None:
    """Give the process group's threads the time to let go of the tensors of what was last exchanged.

    They need the interpreter for it. Whoever takes the group down holds the interpreter and waits for its threads, so
    one that comes right after an exchange would wait forever (docs/log.md, 2026-11-22).
    """
    if accelerator.num_processes > 1:
        with Termination():  # a second SIGTERM finds all saved, and is not to hide how the first one ended the run
            time.sleep(_SETTLING)
