"""A recipe: every setting of a training run, checked, in one object that travels with the run.

There is one for each of the paper's three stages (Fig. 3), and one for ControlNets. Knows nothing of how a stage is
trained.
"""

from __future__ import annotations

from latentshift.training.recipes.autoencoder import AutoencoderRecipe
from latentshift.training.recipes.controlnet import ControlNetRecipe
from latentshift.training.recipes.image import ImageRecipe
from latentshift.training.recipes.video import VideoRecipe

__all__ = ["AnyRecipe", "AutoencoderRecipe", "ControlNetRecipe", "ImageRecipe", "VideoRecipe"]

AnyRecipe = AutoencoderRecipe | ImageRecipe | VideoRecipe | ControlNetRecipe
