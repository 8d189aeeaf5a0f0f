"""From a recipe to a trained model: the stage it names, through the loop."""

from __future__ import annotations

from accelerate import Accelerator

from latentshift.training.autoencoder import AutoencoderStage
from latentshift.training.denoiser import ImageStage, VideoStage
from latentshift.training.folder import check_folder
from latentshift.training.loop import fit
from latentshift.training.processes import accelerator_for
from latentshift.training.recipe import AnyRecipe, AutoencoderRecipe, ImageRecipe


def run(recipe: AnyRecipe, *, quiet: bool = False) -> None:
    """Train to the end of the recipe; the model lies in ``model/`` of the run's folder afterwards.

    On several processes (``torchrun``, ``accelerate launch``) each of them is to call it.

    Raises:
        ValueError: for a base or a run's folder that does not fit the recipe.
        Terminated: after SIGTERM, when all that was learned is saved.
    """
    check_folder(recipe)  # a refusal comes before the work
    accelerator = accelerator_for(recipe)  # before the stage: it sets the threads that building uses
    with accelerator.main_process_first():  # what it encodes, the others find
        stage = _stage_of(recipe, accelerator)
    if not quiet and accelerator.is_main_process and not isinstance(stage, AutoencoderStage):
        for line in stage.data.lines():
            print(line)
    fit(stage, recipe, accelerator, quiet=quiet)


def _stage_of(recipe: AnyRecipe, accelerator: Accelerator) -> AutoencoderStage | ImageStage | VideoStage:
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if isinstance(recipe, AutoencoderRecipe):
        return AutoencoderStage(recipe, rank, ranks)
    if isinstance(recipe, ImageRecipe):
        return ImageStage(recipe, accelerator.device, rank, ranks)
    return VideoStage(recipe, accelerator.device, rank, ranks)
