"""The optimizer, its learning-rate schedule, and its state as named tensors for a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentshift.training.distributed import distribute_like
from latentshift.training.recipes.settings import OptimizerSettings


def build_optimizer(settings: OptimizerSettings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW over some parameters, fused, or with its two moments in 8 bits (bitsandbytes)."""
    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": settings.betas}
    options["weight_decay"] = settings.weight_decay
    if settings.kind == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **options)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, **options)


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The learning rate of step 1 … ``steps``.

    A linear warm-up; then constant, or half a cosine down to a hundredth; and, where ``decay_steps`` is set, a straight
    line to nothing at the end. With a constant rate a run can be made longer from any checkpoint before that line.
    """
    rate = settings.learning_rate * min(1.0, step / max(1, settings.warmup_steps))
    if settings.schedule == "cosine":
        progress = max(0, step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
        rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    if settings.decay_steps:
        rate *= min(1.0, (steps - step + 1) / settings.decay_steps)
    return rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state: ``{parameter number}.{name}``; integers become tensors of one element."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put :func:`optimizer_tensors` back into an optimizer over the same parameters.

    One by one, so that of a sharded tensor no device holds the full value beside others.
    """
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        loaded: Tensor | int = value.to(parameter.device)
        if value.shape == parameter.shape:
            # The fused kernels walk through memory and ignore strides: every moment must be laid out as its parameter,
            # and a file holds it contiguous even where the parameter is channels-last.
            loaded = distribute_like(value, parameter)
        elif value.dim() == 0 and value.dtype == torch.int64:
            loaded = int(value)  # bitsandbytes counts its steps so
        optimizer.state[parameter][name] = loaded


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
