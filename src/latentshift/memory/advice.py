"""Suggest settings that reduce the memory of a run, from the estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from latentshift.memory.estimate import Estimate, estimate, process_size
from latentshift.training.recipe import AnyRecipe
from latentshift.training.recipes.run_settings import fsdp_conflicts
from latentshift.training.recipes.settings import ComputeSettings


def advice(
    recipe: AnyRecipe,
    device: torch.device,
    limit: int,
    processes: int = 1,
    base: int | None = None,
    before: Estimate | None = None,
) -> str:
    """A sentence with the memory a run needs, the memory available, and settings that need less.

    Only settings that do not change the result of training are suggested, and no more than needed.

    Args:
        recipe: of the run.
        device: as for :func:`latentshift.memory.estimate.estimate`, like ``processes`` and ``base``.
        limit: bytes available to each process.
        before: the estimate of this recipe, with the same ``base``, where it is known already.
    """
    base = process_size() if base is None else base  # measured once: the process grows between two estimates
    before = estimate(recipe, device, processes, base) if before is None else before
    overrides: list[str] = []
    best = before
    share = recipe.batch_size // processes
    can_shard = processes > 1 and not fsdp_conflicts(recipe)
    savings = _savings(recipe.compute, recipe.micro_batch_size or share, device, recipe.has_unet, can_shard)
    for override, change in savings:
        if best.total <= limit and overrides:
            break
        candidate = change(recipe)
        changed = estimate(candidate, device, processes, base)
        if changed.total < best.total:
            overrides, recipe, best = [*overrides, override], candidate, changed
    where = "memory" if device.type == "cpu" else f"the memory of {device}"
    sentence = f"the run takes about {_gib(before.total)} of the {_gib(limit)} of {where}"
    if before.total <= limit:
        sentence += ", so other programs must be using the rest"
    if overrides:
        sentence += f"; with {' '.join(overrides)} it takes about {_gib(best.total)}"
    if best.total > limit:
        sentence += "; choose a larger device, or train less in a new run: smaller or fewer frames"
        if recipe.unit == "clips" and recipe.adapter is None:
            sentence += ", or an adapter (lora.rank=16)"
    return sentence


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


Change = Callable[[AnyRecipe], AnyRecipe]


def _savings(
    compute: ComputeSettings, micro_batch_size: int, device: torch.device, has_unet: bool, can_shard: bool
) -> Iterator[tuple[str, Change]]:
    if micro_batch_size > 1:
        yield "micro_batch_size=1", lambda given: given.model_copy(update={"micro_batch_size": 1})
    if compute.precision == "fp32":
        yield "compute.precision=bf16", _with_compute(precision="bf16")
    if has_unet and not compute.gradient_checkpointing:
        yield "compute.gradient_checkpointing=true", _with_compute(gradient_checkpointing=True)
    if can_shard and compute.parallel == "ddp":
        yield "compute.parallel=fsdp", _with_compute(parallel="fsdp")
    elif device.type != "cpu" and compute.ema_device != "cpu":
        yield "compute.ema_device=cpu", _with_compute(ema_device="cpu")


def _with_compute(**changes: Any) -> Change:
    return lambda given: given.model_copy(update={"compute": given.compute.model_copy(update=changes)})
