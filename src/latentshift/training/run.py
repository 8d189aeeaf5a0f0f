"""From a recipe to a trained model: the stage it names, through the loop."""

from __future__ import annotations

from latentshift.training.autoencoder import AutoencoderStage
from latentshift.training.denoiser import ImageStage, VideoStage
from latentshift.training.folder import check_folder
from latentshift.training.loop import Stage, accelerator_for, fit
from latentshift.training.recipe import AnyRecipe, AutoencoderRecipe, ImageRecipe


def run(recipe: AnyRecipe, *, quiet: bool = False) -> None:
    """Train to the end of the recipe; the model lies in ``model/`` of the run's folder afterwards.

    Raises:
        ValueError: for a base or a run's folder that does not fit the recipe.
    """
    check_folder(recipe)  # a refusal comes before the work
    accelerator = accelerator_for(recipe)  # before the stage: it sets the threads that building uses
    stage: Stage
    if isinstance(recipe, AutoencoderRecipe):
        stage = AutoencoderStage(recipe)
    elif isinstance(recipe, ImageRecipe):
        stage = ImageStage(recipe, accelerator.device)
    else:
        stage = VideoStage(recipe, accelerator.device)
    if not quiet and not isinstance(stage, AutoencoderStage):
        for line in stage.data.lines():
            print(line)
    fit(stage, recipe, accelerator, quiet=quiet)
