"""From a recipe to a trained model: the stage it names, through the loop."""

from __future__ import annotations

import os
import sys

import torch
from accelerate import Accelerator

from latentshift.memory.advice import advice
from latentshift.memory.estimate import memory_for_each, process_size
from latentshift.training.arithmetic import is_slow_in_bf16
from latentshift.training.check import check_run
from latentshift.training.checkpoint import list_checkpoints
from latentshift.training.folder import held
from latentshift.training.loop import fit
from latentshift.training.processes import accelerator_for, settle
from latentshift.training.recipe import AnyRecipe, AutoencoderRecipe, ImageRecipe
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.stages.denoiser import ImageStage, VideoStage


def run(recipe: AnyRecipe, *, quiet: bool = False) -> None:
    """Train to the end of the recipe; the model lies in ``model/`` of the run's folder afterwards.

    On several processes (``torchrun``, ``accelerate launch``) each of them is to call it.

    Raises:
        ValueError: for a base or a run's folder that does not fit the recipe, or where another run is at work.
        ValueError: if memory runs out; the message says what takes less.
        Terminated: after SIGTERM, when all that was learned is saved.
    """
    check_run(recipe, int(os.environ.get("WORLD_SIZE", "1")))  # a refusal comes before the work
    base = process_size()
    accelerator = accelerator_for(recipe)  # before the stage: it sets the threads that building uses
    try:
        with held(recipe.output, accelerator):
            with accelerator.main_process_first():  # what it encodes, the others find
                stage = stage_of(recipe, accelerator)
            if not quiet and accelerator.is_main_process:
                for line in stage.lines():
                    print(line)
                if recipe.compute.precision == "bf16" and is_slow_in_bf16(accelerator.device):
                    print(
                        "warning: this CPU has no instructions for bf16, and is many times faster with "
                        "compute.precision=fp32",
                        file=sys.stderr,
                    )
            fit(stage, recipe, accelerator, quiet=quiet)
    except (MemoryError, RuntimeError) as error:
        if "closed by peer" in str(error) or "reset by peer" in str(error):
            raise ValueError("another process of this run has ended; its message says why") from error
        if not _is_of_memory(error):
            raise
        device, processes = accelerator.device, accelerator.num_processes
        told = advice(recipe, device, memory_for_each(device, processes), processes, base)
        kept = list_checkpoints(recipe.output / "checkpoints")
        goes_on = f"the same command goes on from {kept[-1]}" if kept else "nothing was saved yet"
        raise ValueError(f"out of memory: {told}; {goes_on}") from error
    finally:
        settle(accelerator)


def _is_of_memory(error: Exception) -> bool:
    # Torch has a class of its own for it, and says it in words alone on the CPU and where a library runs short.
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(each in str(error) for each in words)


def stage_of(recipe: AnyRecipe, accelerator: Accelerator) -> AutoencoderStage | ImageStage | VideoStage:
    """A recipe's stage, as this process sees it; its data is listed, and encoded where that is asked for."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if isinstance(recipe, AutoencoderRecipe):
        return AutoencoderStage(recipe, rank, ranks)
    if isinstance(recipe, ImageRecipe):
        return ImageStage(recipe, accelerator.device, rank, ranks)
    return VideoStage(recipe, accelerator.device, rank, ranks)
