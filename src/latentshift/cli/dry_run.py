"""``latentshift train --dry-run``: the resolved recipe, and what the run is going to take, in comments below it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentshift.training.estimate import Estimate
    from latentshift.training.recipe import AnyRecipe


def dry_run(recipe: AnyRecipe, processes: int) -> None:
    """Print it; a warning where the device has too little memory, or the data can't be counted.

    Raises:
        ValueError: if what the run starts from can't be read, or the batch can't be shared.
    """
    from latentshift.cli.models import pick_device, quiet_libraries
    from latentshift.training.recipe import dump_recipe

    print(dump_recipe(recipe), end="", flush=True)
    quiet_libraries()
    import torch

    from latentshift.training.estimate import advice, device_memory, estimate
    from latentshift.training.processes import parts_of_a_share

    device = torch.device(pick_device(recipe.compute.device))
    parts_of_a_share(recipe, processes)
    found = estimate(recipe, device, processes)
    for line in (*_told(found), _epoch(recipe)):
        print(f"# {line}".rstrip())
    if found.total > device_memory(device):
        print(f"warning: {advice(recipe, device, processes)}", file=sys.stderr)


def _told(found: Estimate) -> list[str]:
    lines = ["", f"{'parameters':24}{'all':>15}{'trained':>15}"]
    for part in found.parts:
        note = "" if part.at_work else "  not needed in training"
        lines.append(f"  {part.name:22}{part.parameters:>15,}{part.trained:>15,}{note}")
    lines.append("peak memory of a process")
    lines += [f"  {name:22}{size / 2**30:>11.2f} GiB" for name, size in found.memory.items()]
    lines.append(f"  {'in all':22}{found.total / 2**30:>11.2f} GiB")
    lines.append(f"{'FLOPs a step':24}{found.flops:>15.3g}")
    return lines


def _epoch(recipe: AnyRecipe) -> str:
    from latentshift.training.data import count_clips
    from latentshift.training.recipe import AutoencoderRecipe

    name = f"{'steps an epoch':24}"
    if isinstance(recipe, AutoencoderRecipe):
        return f"{name}{'endless':>15}  no frame is drawn twice"
    try:
        count = count_clips(recipe)
    except ValueError as error:
        return f"{name}{'not known':>15}  {error}"
    return f"{name}{count / recipe.batch_size:>15,.1f}  {count:,} clips, those that turn out to be of no use among them"
