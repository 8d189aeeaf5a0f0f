"""Stage (b) of Fig. 3: a U-Net from scratch and a text encoder, on single frames; exports a stock image pipeline."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, LDMTextToImagePipeline, StableDiffusionPipeline
from torch import nn
from transformers import CLIPTextModel

from latentshift.files import atomic_write
from latentshift.models.storage.fingerprint import model_fingerprint
from latentshift.models.storage.model_paths import autoencoder_folder
from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.data.video_batches import video_batches
from latentshift.training.models.build import new_image_model
from latentshift.training.models.text_model import build_text_model, check_known_words, load_text_encoder
from latentshift.training.recipe import ImageRecipe
from latentshift.training.stages.denoising import DenoisingStage


class ImageStage(DenoisingStage):
    """Latents of single frames in; a stock image pipeline out, Stable Diffusion's for CLIP and LDM's for others.

    Args:
        recipe: the stage's, from which everything is built.
        device: where it is trained.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.
    """

    def __init__(self, recipe: ImageRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        autoencoder = _load_autoencoder(recipe.autoencoder)
        text_model = build_text_model(recipe.text, recipe.tokenizer, recipe.text_encoder, recipe.data)
        pipeline = new_image_model(
            recipe.unet,
            text_model,
            recipe.prediction_type or "epsilon",
            autoencoder,
            zero_terminal_snr=recipe.zero_terminal_snr,
            train_text_encoder=recipe.train_text_encoder,
        )
        if recipe.has_sprites_vocabulary and not list_checkpoints(recipe.output / "checkpoints"):
            check_known_words(pipeline.tokenizer, recipe.data)
        pretrained = () if recipe.text_encoder is None else text_model
        base = model_fingerprint(autoencoder, pipeline.scheduler, *pretrained)
        run, text_encoder = recipe.autoencoder, str(recipe.text_encoder)
        batch_spec = video_batches(recipe.batch_size, 1)

        def load_part(name: str, kind: type[nn.Module]) -> nn.Module:
            # A text encoder is offloaded only where it is frozen, and so pretrained.
            return load_text_encoder(text_encoder) if name == "text_encoder" else _load_autoencoder(run)

        super().__init__(
            recipe, pipeline, 1, batch_spec, load_part, base_fingerprint=base, device=device, rank=rank, ranks=ranks
        )

    def export(self, output: Path) -> None:
        parts = self.pipeline
        with self.offloaded.loaded(), atomic_write(output / "model") as folder:
            common = {"tokenizer": parts.tokenizer, "unet": parts.unet, "scheduler": parts.scheduler}
            if isinstance(parts.text_encoder, CLIPTextModel):
                absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
                stock = StableDiffusionPipeline(vae=parts.vae, text_encoder=parts.text_encoder, **common, **absent)
            else:
                stock = LDMTextToImagePipeline(vqvae=parts.vae, bert=parts.text_encoder, **common)
            stock.save_pretrained(folder)


def _load_autoencoder(run: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(autoencoder_folder(run), use_safetensors=True)
