"""From a recipe to a trained model: the stage it names, through the loop."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from latentshift.training.autoencoder import AutoencoderStage
from latentshift.training.denoiser import ImageStage, VideoStage
from latentshift.training.estimate import advice
from latentshift.training.folder import check_folder
from latentshift.training.loop import fit
from latentshift.training.processes import accelerator_for
from latentshift.training.recipe import AnyRecipe, AutoencoderRecipe, ImageRecipe


def run(recipe: AnyRecipe, *, quiet: bool = False) -> None:
    """Train to the end of the recipe; the model lies in ``model/`` of the run's folder afterwards.

    On several processes (``torchrun``, ``accelerate launch``) each of them is to call it.

    Raises:
        ValueError: for a base or a run's folder that does not fit the recipe.
        ValueError: if memory runs out; the message says what takes less.
        Terminated: after SIGTERM, when all that was learned is saved.
    """
    check_folder(recipe)  # a refusal comes before the work
    accelerator = accelerator_for(recipe)  # before the stage: it sets the threads that building uses
    with accelerator.main_process_first():  # what it encodes, the others find
        stage = stage_of(recipe, accelerator)
    if not quiet and accelerator.is_main_process and not isinstance(stage, AutoencoderStage):
        for line in stage.data.lines():
            print(line)
    try:
        fit(stage, recipe, accelerator, quiet=quiet)
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        told = advice(recipe, accelerator.device, accelerator.num_processes)
        raise ValueError(f"out of memory: {told}; the same command goes on from the newest checkpoint") from error


def _is_of_memory(error: Exception) -> bool:
    # Torch says it with a class of its own on a GPU, and on the CPU in words alone.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def stage_of(recipe: AnyRecipe, accelerator: Accelerator) -> AutoencoderStage | ImageStage | VideoStage:
    """A recipe's stage, as this process sees it; its data is listed, and encoded where that is asked for."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if isinstance(recipe, AutoencoderRecipe):
        return AutoencoderStage(recipe, rank, ranks)
    if isinstance(recipe, ImageRecipe):
        return ImageStage(recipe, accelerator.device, rank, ranks)
    return VideoStage(recipe, accelerator.device, rank, ranks)
