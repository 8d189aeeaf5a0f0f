"""Stage (c) of Fig. 3: frames meet in an image model, and its U-Net is fine-tuned on clips; exports our pipeline."""

from __future__ import annotations

import json
from fractions import Fraction
from math import floor
from pathlib import Path

import torch
from torch import nn

from latentshift.data.loader import BatchSpec
from latentshift.files import atomic_write
from latentshift.model_paths import BUNDLED, resolve_model
from latentshift.models.adapter import add_lora, merge_lora, save_delta, save_lora
from latentshift.models.families import load_part
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.training.build import lora_of, prepare_video_model
from latentshift.training.recipe import VideoRecipe
from latentshift.training.stages.denoising import DenoisingStage


class VideoStage(DenoisingStage):
    """Latents of clips in; a latentshift pipeline, its adapter, or its difference from the base out."""

    recipe: VideoRecipe

    def __init__(self, recipe: VideoRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        pipeline = _open_base(recipe.model)
        own_temporal = pipeline.temporal
        prepare_video_model(recipe, pipeline)
        # New layers are this run's own: another library may draw them differently, and a checkpoint holds them.
        base = {**pipeline.components, "temporal": own_temporal if pipeline.temporal is own_temporal else None}
        super().__init__(recipe, pipeline, base.values(), pipeline.config.num_frames, device, rank, ranks)
        for name in ("shift", "num_frames", "noise_share"):
            self.fingerprint[name] = json.dumps(pipeline.config[name], sort_keys=True)
        if recipe.lora is not None:
            add_lora(pipeline.unet, lora_of(recipe.lora))

    def batch_spec(self, step: int) -> BatchSpec:
        """Clips, or at ``image_share`` of the steps, evenly spread, as many single frames as those clips have.

        Clips and images go through the data each in an order of their own, so that neither leaves any out.
        """
        clips, num_frames = self.recipe.batch_size, self.num_frames
        share = Fraction(str(self.recipe.image_share))
        images_before, images_after = floor((step - 1) * share), floor(step * share)
        if images_after > images_before:
            return BatchSpec(clips * num_frames, 1, images_before * clips * num_frames)
        return BatchSpec(clips, num_frames, (step - 1 - images_before) * clips)

    def load_part(self, name: str, kind: type[nn.Module]) -> nn.Module:
        return load_part(resolve_model(self.recipe.model), name, kind)

    def export(self, output: Path) -> None:
        with self.offloaded.loaded():
            self._export(output)

    def _export(self, output: Path) -> None:
        recipe, pipeline = self.recipe, self.pipeline
        if recipe.guidance_scale is not None:
            pipeline.register_to_config(guidance_scale=recipe.guidance_scale)
        exports = recipe.exports or (("model",) if recipe.lora is None else ("lora",))
        if recipe.lora is not None:
            if "lora" in exports:
                save_lora(pipeline, lora_of(recipe.lora), output / "lora.safetensors")
            if exports != ("lora",):
                merge_lora(pipeline.unet)
        if "delta" in exports:
            save_delta(pipeline, open_pipeline(recipe.model), output / "delta.safetensors")
        if "model" not in exports:
            return
        for part in (pipeline, pipeline.unet, pipeline.vae, pipeline.temporal):
            if part is not None:
                part.register_to_config(_name_or_path=None)  # a path of the machine that trained it
        pipeline.to(getattr(torch, recipe.weights))
        with atomic_write(output / "model") as folder:
            pipeline.save_pretrained(folder)
        pipeline.to(torch.float32)


def _open_base(model: str) -> LatentShiftPipeline:
    try:
        return open_pipeline(model)
    except ValueError as error:
        is_there = model == BUNDLED or Path(model).exists()
        hint = "" if is_there else "; train stage (b) first if it is a run"
        raise ValueError(f"{error}{hint}") from error
