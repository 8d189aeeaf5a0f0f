"""A ControlNet (Zhang et al. 2023) for a model that stays as it is: exports a stock ``ControlNetModel``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentshift.files import atomic_write
from latentshift.models.storage.fingerprint import model_fingerprint
from latentshift.models.storage.load_pipeline import load_part
from latentshift.models.storage.model_paths import resolve_model
from latentshift.models.storage.saved_pipeline import find_family
from latentshift.pipeline import open_pipeline
from latentshift.training.data.video_batches import video_batches
from latentshift.training.models.build import prepare_controlnet
from latentshift.training.recipe import ControlNetRecipe
from latentshift.training.stages.denoising import PREVIEW_PROMPTS, DenoisingStage
from latentshift.training.stages.video import PIPELINE_SETTINGS
from latentshift.video import edge_maps

_CONDITIONS = {"edges": edge_maps}


class ControlNetStage(DenoisingStage):
    """Clips, or single frames, and pictures made of them in; a ControlNet out, in ``controlnet/``.

    Args:
        recipe: the stage's, from which everything is built.
        device: where it is trained.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.
    """

    def __init__(self, recipe: ControlNetRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        path, variant = resolve_model(recipe.model), recipe.variant
        pipeline = open_pipeline(recipe.model, variant=variant)
        base = model_fingerprint(*pipeline.components.values())
        self.controlnet, num_frames = prepare_controlnet(
            pipeline,
            is_image_model=find_family(path) is not None,
            num_frames=recipe.num_frames,
            shifted=recipe.shift_controlnet,
        )

        def load(name: str, kind: type[nn.Module]) -> nn.Module:
            return load_part(path, name, kind, variant)

        super().__init__(
            recipe,
            pipeline,
            num_frames,
            video_batches(recipe.batch_size, num_frames),
            load,
            controlnet=self.controlnet,
            condition=_CONDITIONS[recipe.condition],
            base_fingerprint=base,
            pipeline_settings={name: json.dumps(pipeline.config[name], sort_keys=True) for name in PIPELINE_SETTINGS},
            device=device,
            rank=rank,
            ranks=ranks,
        )
        self._samples: list[Any] = []

    def sample(self, folder: Path, step: int) -> None:
        if not self._samples:
            with closing(self.data.loader.batches()) as batches:
                self._samples = next(batches).samples[:PREVIEW_PROMPTS]
        prompts = self.sample_prompts or [each.caption for each in self._samples]
        clips = [self._samples[number % len(self._samples)].content for number in range(len(prompts))]
        assert self.collate.condition is not None
        self.previews.write(prompts, folder / f"step-{step:08d}", [self.collate.condition(clip) for clip in clips])

    def export(self, output: Path) -> None:
        with atomic_write(output / "controlnet") as folder:
            self.controlnet.save_pretrained(folder)
