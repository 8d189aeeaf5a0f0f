"""``latentshift train``: train by a recipe into a run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from latentshift.cli.ranks import before_meeting
from latentshift.imports.fast_import import collector_paused
from latentshift.out_of_memory import is_out_of_memory
from latentshift.progress import status
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.training.recipe import AnyRecipe


def train(
    recipe: Path = typer.Argument(..., help="The recipe, a YAML file; see recipes/."),
    overrides: list[str] | None = typer.Argument(
        None, help="Overrides as key=value, e.g. optimizer.learning_rate=1e-4."
    ),
    dry: bool = typer.Option(
        False, "--dry-run", help="Print the resolved recipe and estimated memory and compute, and exit."
    ),
    processes: int | None = typer.Option(
        None, "--processes", min=1, help="With --dry-run: number of processes. Default: 1."
    ),
    memory: float | None = typer.Option(
        None,
        "--memory",
        min=0.0,
        help="With --dry-run: GiB of memory of each process's device. Default: this machine's.",
    ),
) -> None:
    """Train by a recipe; the same command resumes an interrupted run."""
    from latentshift.cli.preflight import check_data, check_recipe
    from latentshift.training.recipe_file import load_recipe

    with before_meeting("train RECIPE") as launched:
        resolved = load_recipe(recipe, overrides or [])
        check_recipe(resolved, data=not dry)
        if dry:
            from latentshift.cli.dry_run import dry_run

            dry_run(resolved, processes or 1, memory)
            return
        if processes is not None or memory is not None:
            raise ValueError(
                "--processes and --memory need --dry-run; on several processes train with "
                "torchrun --nproc-per-node=N -m latentshift train RECIPE"
            )
        from latentshift.training.preflight import EXPORTS, validate_run

        # Before the libraries are loaded, which takes seconds; run() checks again for those who call it from Python.
        validate_run(resolved, launched.count)
        check_data(resolved)
    _run(resolved, first=launched.rank == 0)
    if launched.rank > 0:  # only the first process prints
        return
    for made in EXPORTS:
        if (resolved.output / made).exists():
            print(printable(resolved.output / made, 4096))


def _run(resolved: AnyRecipe, *, first: bool) -> None:
    """Train in this process; what stops it is told with how to go on.

    Args:
        resolved: the recipe.
        first: whether this is the first process.
    """
    from latentshift.cli.models import pick_device, quiet_libraries

    with status("loading libraries", shown=first):
        quiet_libraries()
        pick_device(resolved.compute.device)
        with collector_paused():
            from accelerate import PartialState

            from latentshift.memory.advice import advice
            from latentshift.memory.estimate import memory_for_each, process_size
            from latentshift.preemption import Terminated
            from latentshift.training.checkpoints.paths import list_checkpoints
            from latentshift.training.run import run

    base = process_size()
    try:
        run(resolved)
    except KeyboardInterrupt:
        kept = list_checkpoints(resolved.output / "checkpoints")
        start = f"from {kept[-1]}" if kept else "from the beginning: there is no checkpoint yet"
        print(f"stopped; the same command resumes {printable(start)}", file=sys.stderr)
        raise typer.Exit(130) from None
    except Terminated:
        PartialState().destroy_process_group()
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        device, ranks = PartialState().device, PartialState().num_processes
        needs = advice(resolved, device, memory_for_each(device, ranks), ranks, base)
        kept = list_checkpoints(resolved.output / "checkpoints")
        resumes = f"the same command resumes from {kept[-1]}" if kept else "nothing was saved yet"
        raise ValueError(f"out of memory: {needs}; {resumes}") from error
    # Only where all processes end together: after an error in one, destroying the group may wait for the others before
    # the error is shown.
    PartialState().destroy_process_group()
