"""``latentshift train --dry-run``: print the resolved recipe, and an estimate of the run as comments below it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.memory.estimate import Estimate
    from latentshift.training.recipe import AnyRecipe


def dry_run(recipe: AnyRecipe, processes: int, memory: float | None) -> None:
    """Print the recipe and the estimate, with a warning if the device has too little memory.

    Args:
        recipe: of the run.
        processes: that share each batch.
        memory: GiB of each process's device, which then need not be in this machine, nor the data. None: this
            machine's.

    Raises:
        ValueError: if the run could not start, or its base model can't be read.
    """
    from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
    from latentshift.training.preflight import lost_shift, rate_change, validate_run
    from latentshift.training.recipe_file import dump_recipe

    print(dump_recipe(recipe), end="", flush=True)
    name = recipe.compute.device
    elsewhere = memory is not None and name.startswith("cuda")
    validate_run(recipe, processes, elsewhere=elsewhere)
    steps = [checkpoint_step(each) for each in list_checkpoints(recipe.output / "checkpoints")]
    if steps and (change := rate_change(recipe, steps[-1])) is not None:
        print(f"warning: {printable(change)}", file=sys.stderr)
    if (lost := lost_shift(recipe)) is not None:
        print(f"warning: {printable(lost)}", file=sys.stderr)
    from latentshift.cli.models import pick_device, quiet_libraries

    quiet_libraries()
    import torch

    from latentshift.memory.advice import advice
    from latentshift.memory.estimate import estimate, memory_for_each, process_size
    from latentshift.training.data.sample_counts import count_offered
    from latentshift.training.data.settings_digest import data_settings_sha256

    device = torch.device(name if elsewhere else pick_device(name))
    limit = memory_for_each(device, processes) if memory is None else round(memory * 2**30)
    base = process_size()
    needs = estimate(recipe, device, processes, base)
    for line in _table(needs):
        print(f"# {line}".rstrip())
    if needs.total > limit:
        advised = advice(recipe, device, limit, processes, base, before=needs)
        print(f"warning: {printable(advised, 2000)}", file=sys.stderr)
    samples_a_step = recipe.batch_size * (1.0 - recipe.share_of_images)
    epoch = _epoch(partial(count_offered, recipe), samples_a_step, elsewhere=memory is not None)
    few = "; of whole clips, of which frame_curriculum's steps take more" if recipe.steps_on_few_frames else ""
    print(f"# {'steps an epoch':26}{epoch}{few}")
    print(f"# data settings, SHA-256    {data_settings_sha256(recipe)}")


def _table(needs: Estimate) -> list[str]:
    lines = [""]
    if needs.video:
        lines.append("the video model, with what it has of its base")
        lines += [f"  {name:24}{_in_words(value):>15}" for name, value in needs.video.items()]
    lines.append(f"{'parameters':26}{'all':>15}{'trained':>15}")
    for part in needs.parts:
        note = "" if part.at_work else "  not needed in training"
        lines.append(f"  {part.name:24}{part.parameters:>15,}{part.trained:>15,}{note}")
    lines.append(f"peak memory of a process, {needs.fullest}")
    others = {moment: needs.held(moment) for moment in needs.moments if moment != needs.fullest}
    for name, size in {**needs.memory, "in all": needs.total, **others}.items():
        lines.append(f"  {name:24}{size / 2**30:>11.2f} GiB")
    lines.append(f"{'FLOPs a step':26}{needs.flops:>15.3g}")
    return lines


def _in_words(value: object) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def _epoch(count_samples: Callable[[], int | None], samples_a_step: float, *, elsewhere: bool) -> str:
    """Steps an epoch; the data may be missing if the run is for another machine."""
    try:
        count = count_samples()
    except ValueError as error:
        if not elsewhere:
            raise
        return f"{'not known':>15}  {error}"
    if count is None:
        return f"{'endless':>15}  no frame is drawn twice"
    return f"{count / samples_a_step:>15,.1f}  {count:,} samples, before any are rejected"
