"""Stage (c) of Fig. 3: frames meet in an image model, and its U-Net is fine-tuned on clips; exports our pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from latentshift.files import atomic_write
from latentshift.models.adapters.video_adapter import merge_lora, save_delta, save_lora
from latentshift.models.storage.load_pipeline import load_part
from latentshift.models.storage.model_paths import resolve_model
from latentshift.models.storage.source_paths import without_source_paths
from latentshift.pipeline import open_pipeline
from latentshift.training.data.video_batches import clips_until, video_batches
from latentshift.training.models.build import lora_of
from latentshift.training.models.video_model import open_video_model
from latentshift.training.recipe import VideoRecipe
from latentshift.training.stages.denoising import DenoisingStage

PIPELINE_SETTINGS = ("shift", "num_frames", "noise_share")  # that a checkpoint belongs to


class VideoStage(DenoisingStage):
    """Latents of clips in; a latentshift pipeline, its adapter, or its difference from the base out.

    Args:
        recipe: the stage's, from which everything is built.
        device: where it is trained.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.

    Attributes:
        batch_spec: step (1, 2, …) -> which samples it takes.
    """

    def __init__(self, recipe: VideoRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        opened = open_video_model(recipe)
        pipeline, self.base_prediction_type = opened.pipeline, opened.base_prediction_type
        model, variant = recipe.model, recipe.variant

        def load(name: str, kind: type[nn.Module]) -> nn.Module:
            return load_part(resolve_model(model), name, kind, variant)

        num_frames = pipeline.config.num_frames
        batches = recipe.batch_size, num_frames, recipe.image_share, recipe.frame_curriculum
        self.batch_spec = video_batches(*batches)
        self._batches = batches
        super().__init__(
            recipe,
            pipeline,
            num_frames,
            self.batch_spec,
            load,
            base_fingerprint=opened.base_fingerprint,
            pipeline_settings={name: json.dumps(pipeline.config[name], sort_keys=True) for name in PIPELINE_SETTINGS},
            device=device,
            rank=rank,
            ranks=ranks,
        )
        self.model, self.variant = model, variant
        self.lora, self.exported_files = recipe.lora, recipe.exported_files
        self.weights, self.guidance_scale = recipe.weights, recipe.guidance_scale

    def samples_until(self, step: int) -> int:
        return clips_until(step, *self._batches)

    def export(self, output: Path) -> None:
        with self.offloaded.loaded():
            self._export(output)

    def _export(self, output: Path) -> None:
        pipeline, exports = self.pipeline, self.exported_files
        if self.guidance_scale is not None:
            pipeline.register_to_config(guidance_scale=self.guidance_scale)
        if self.lora is not None:
            if "lora" in exports:
                save_lora(pipeline, lora_of(self.lora), output / "lora.safetensors", self.base_prediction_type)
            if exports != ("lora",):
                merge_lora(pipeline.unet)
        if "delta" in exports:
            save_delta(pipeline, open_pipeline(self.model, variant=self.variant), output / "delta.safetensors")
        if "model" not in exports:
            return
        pipeline.to(getattr(torch, self.weights))
        with atomic_write(output / "model") as folder, without_source_paths(pipeline):
            pipeline.save_pretrained(folder)
        pipeline.to(torch.float32)
