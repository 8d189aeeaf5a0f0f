"""Estimate parameters, memory by purpose, and FLOPs of a run before it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import nn

from latentshift.memory.fake_tensors import fake_tensors
from latentshift.memory.machine_memory import machine_memory
from latentshift.memory.trace import StepTrace, peak_memory, trace_step
from latentshift.memory.workload import Part, Workload, workload_of
from latentshift.training.distributed import block_sizes
from latentshift.training.precision import attention_backend, autocast_dtype, encoding_dtype
from latentshift.training.recipe import AnyRecipe
from latentshift.training.recipes.settings import ComputeSettings

STEP, ENCODING, SAMPLES = "in a step", "while clips are encoded", "while samples are made"

_FLOAT = 4  # bytes of a weight, a gradient, an average
_MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of the optimizer's two averages, for each trained weight

Memory = dict[str, int]  # bytes by purpose


@dataclass(frozen=True)
class Estimate:
    """The estimated needs of a run.

    Attributes:
        parts: of the model.
        moments: memory of one process on its device at its peak, in each phase: ``STEP`` (of the largest kind of step),
            ``ENCODING`` and ``SAMPLES`` (of the main process).
        flops: floating-point operations of a step, of all processes together; the mean over the kinds of steps.
        video: settings of the video model, those that are the base's too.
    """

    parts: tuple[Part, ...]
    moments: dict[str, Memory]
    flops: int
    video: Mapping[str, object] = field(default_factory=dict)

    @property
    def fullest(self) -> str:
        """The phase with the highest peak."""
        return max(self.moments, key=self.held)

    @property
    def memory(self) -> Memory:
        """Memory of that phase, by purpose."""
        return self.moments[self.fullest]

    @property
    def total(self) -> int:
        """Total bytes at the highest peak."""
        return self.held(self.fullest)

    def held(self, moment: str) -> int:
        """Total bytes at the peak of a phase."""
        return sum(self.moments[moment].values())


def estimate(recipe: AnyRecipe, device: torch.device, processes: int = 1, base: int | None = None) -> Estimate:
    """Estimate what each process of a run needs.

    Args:
        recipe: of the run; only the configurations of its models are read.
        device: to train on; it need not be in this machine.
        processes: that share each batch.
        base: bytes of a process before anything is loaded, counted on the CPU alone; None: of this process, now.

    Raises:
        ValueError: if the configuration of its base can't be read, or is not a valid base.
    """
    share = recipe.batch_size // processes
    micro = recipe.micro_batch_size or share
    work = workload_of(recipe, micro)
    resting = _resting(recipe.optimizer.kind, recipe.compute, work, device, processes)
    if device.type == "cpu":
        resting["Python and libraries"] = process_size() if base is None else base
    gathered = share > micro or (processes > 1 and recipe.compute.parallel == "ddp")
    steps, sampling, encoding = _trace(work, recipe.compute, device, gathered=gathered)
    fullest = max((each for _, each in steps), key=lambda each: each.gradients + each.activations)
    in_shares = processes > 1 and recipe.compute.parallel == "fsdp"
    step = {**resting, "gradients": fullest.gradients, "activations": fullest.activations}
    if in_shares:
        block, rest = block_sizes(work.objective)
        step["gradients"] //= processes
        step["gathered blocks"] = _FLOAT * (rest + 2 * block)  # the current one and the next
        step["exchange of gradients"] = _FLOAT * block
    moments = {STEP: step, SAMPLES: {**resting, "activations": max(sampling)}}
    if encoding:
        moments[ENCODING] = {**resting, "activations": max(encoding)}
    everything, count = _count(work, lambda part: part.parameters), _count(work, lambda part: part.trained)
    if in_shares:
        if device.type == "cpu":
            copied = _FLOAT * _of_objective(work)
            moments = {name: {**held, "copy for samples": copied} for name, held in moments.items()}
        moments[SAMPLES]["copy for samples"] = _FLOAT * (everything - _beside_objective(work))
    else:
        moments[SAMPLES]["weights"] = _FLOAT * everything
        if device.type == "cpu":  # averaged weights replace the trained ones
            moments[SAMPLES]["weights put aside"] = _FLOAT * count
    flops = sum(share_of_steps * each.flops for share_of_steps, each in steps)
    return Estimate(work.parts, moments, round(flops * (share // micro) * processes), work.video)


def _trace(
    work: Workload, compute: ComputeSettings, device: torch.device, *, gathered: bool
) -> tuple[list[tuple[float, StepTrace]], list[int], list[int]]:
    """Run the work on fake tensors, which have no memory.

    Args:
        work: of the run.
        compute: its settings.
        device: to train on.
        gathered: whether gradients are kept from one micro-batch to the next, or exchanged.

    Returns:
        Each kind of step with its share of the steps, and the peaks of sampling and of encoding, in bytes.
    """
    if device.type == "cuda":
        for module in work.modules:
            _calculate_norms_in_float32(module)
    with fake_tensors():
        objective = work.objective.to_empty(device="cpu").train()
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        with attention_backend(compute.attention, device):
            steps = [
                (
                    share_of_steps,
                    trace_step(
                        lambda batch=batch(): objective(batch)["loss"],  # type: ignore[misc]
                        trained,
                        lambda: _autocast(autocast_dtype(compute.precision)),
                        gathered=gathered,
                    ),
                )
                for share_of_steps, batch in work.steps
            ]
        with torch.no_grad():
            sampling = [peak_memory(each) for each in work.sampling]
            with _autocast(encoding_dtype(compute.precision)):
                encoding = [peak_memory(each) for each in work.encoding]
    return steps, sampling, encoding


def process_size() -> int:
    """Bytes of memory that this process uses now."""
    return int(psutil.Process().memory_info().rss)


def memory_for_each(device: torch.device, processes: int) -> int:
    """Bytes available to each process: all of a GPU, or an equal share of the machine's memory.

    Raises:
        ValueError: for a GPU that this machine does not have.
    """
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("this machine has no GPU; give the memory of yours with --memory GIB")
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine_memory() // processes


def _resting(optimizer: str, compute: ComputeSettings, work: Workload, device: torch.device, processes: int) -> Memory:
    """Memory that is used in every phase."""
    count = _count(work, lambda part: part.trained)
    held = {
        "weights": _FLOAT * _count(work, lambda part: part.parameters if part.at_work else 0),
        "optimizer": _MOMENTS[optimizer] * count,
        "averages": _FLOAT * count if compute.ema_device != "cpu" or device.type == "cpu" else 0,
    }
    if processes == 1:
        return held
    if compute.parallel == "fsdp":
        beside = _FLOAT * _beside_objective(work)  # the autoencoder, of which each process has all
        held["weights"] -= beside
        shared = {name: size // processes for name, size in held.items()}
        return {**shared, "weights": shared["weights"] + beside}
    return {**held, "exchange of gradients": _FLOAT * count}


def _of_objective(work: Workload) -> int:
    return sum(each.numel() for each in work.objective.parameters())


def _beside_objective(work: Workload) -> int:
    return _count(work, lambda part: part.parameters if part.at_work else 0) - _of_objective(work)


def _count(work: Workload, of: Callable[[Part], int]) -> int:
    return sum(of(part) for part in work.parts)


def _autocast(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)


def _calculate_norms_in_float32(part: nn.Module) -> None:
    """As CUDA's autocast does, and the CPU's does not."""
    for module in part.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(lambda module, arguments: (arguments[0].float(), *arguments[1:]))
