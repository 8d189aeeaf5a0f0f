"""What would make a run take less memory, in a sentence, from the estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from latentshift.memory.estimate import estimate
from latentshift.training.recipe import AnyRecipe, DiffusionSettings, VideoRecipe, conflicts_with_shares


def advice(recipe: AnyRecipe, device: torch.device, limit: int, processes: int = 1, base: int | None = None) -> str:
    """What a run takes beside what there is, and which settings would make it take less and learn the same.

    Args:
        recipe: of the run.
        device: as for :func:`latentshift.memory.estimate.estimate`, like ``processes`` and ``base``.
        limit: bytes that there are for each process.
    """
    found = estimate(recipe, device, processes, base)
    words: list[str] = []
    less = found
    for word, change in _savings(recipe, device, processes):
        if less.total <= limit and words:
            break
        changed = change(recipe)
        tried = estimate(changed, device, processes, base)
        if tried.total < less.total:
            words, recipe, less = [*words, word], changed, tried
    where = "memory" if device.type == "cpu" else f"the memory of {device}"
    said = f"the run takes about {_gib(found.total)} of the {_gib(limit)} of {where}"
    if found.total <= limit:
        said += ", so something else must have taken the rest"
    if words:
        said += f"; with {' '.join(words)} it takes about {_gib(less.total)}"
    if less.total > limit:
        said += "; choose a larger device, or train less in a new run: smaller or fewer frames"
        if isinstance(recipe, VideoRecipe) and recipe.lora is None:
            said += ", or an adapter (lora.rank=16)"
    return said


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


Change = Callable[[AnyRecipe], AnyRecipe]


def _savings(recipe: AnyRecipe, device: torch.device, processes: int) -> Iterator[tuple[str, Change]]:
    compute = recipe.compute
    if (recipe.micro_batch_size or recipe.batch_size // processes) > 1:
        yield "micro_batch_size=1", lambda given: given.model_copy(update={"micro_batch_size": 1})
    if compute.precision == "fp32":
        yield "compute.precision=bf16", _with_compute(precision="bf16")
    if isinstance(recipe, DiffusionSettings) and not compute.gradient_checkpointing:
        yield "compute.gradient_checkpointing=true", _with_compute(gradient_checkpointing=True)
    if processes > 1 and compute.parallel == "ddp" and not conflicts_with_shares(recipe):
        yield "compute.parallel=fsdp", _with_compute(parallel="fsdp")
    elif device.type != "cpu" and compute.ema_device != "cpu":
        yield "compute.ema_device=cpu", _with_compute(ema_device="cpu")


def _with_compute(**changes: Any) -> Change:
    return lambda given: given.model_copy(update={"compute": given.compute.model_copy(update=changes)})
