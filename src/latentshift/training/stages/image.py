"""Stage (b) of Fig. 3: U-Net and text encoder from scratch, on single frames; exports a stock image pipeline."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, LDMTextToImagePipeline
from torch import nn

from latentshift.files import atomic_write
from latentshift.training.build import autoencoder_folder, new_image_model
from latentshift.training.recipe import ImageRecipe
from latentshift.training.stages.denoising import DenoisingStage


class ImageStage(DenoisingStage):
    """Latents of single frames in, a folder with a stock ``LDMTextToImagePipeline`` out."""

    recipe: ImageRecipe

    def __init__(self, recipe: ImageRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        autoencoder = self._load_autoencoder(recipe.autoencoder)
        pipeline = new_image_model(recipe.unet, recipe.text, recipe.prediction_type or "epsilon", autoencoder)
        super().__init__(recipe, pipeline, (autoencoder, pipeline.scheduler), 1, device, rank, ranks)

    def load_part(self, name: str, kind: type[nn.Module]) -> nn.Module:
        assert name == "vae"
        return self._load_autoencoder(self.recipe.autoencoder)

    @staticmethod
    def _load_autoencoder(run: Path) -> AutoencoderKL:
        return AutoencoderKL.from_pretrained(autoencoder_folder(run), use_safetensors=True)

    def export(self, output: Path) -> None:
        parts = self.pipeline
        with self.offloaded.loaded(), atomic_write(output / "model") as folder:
            stock = LDMTextToImagePipeline(
                vqvae=parts.vae,
                bert=parts.text_encoder,
                tokenizer=parts.tokenizer,
                unet=parts.unet,
                scheduler=parts.scheduler,
            )
            stock.save_pretrained(folder)
