"""What stages (b) and (c) of Fig. 3 share: a U-Net learns to predict the noise in latents.

The latents are of clips that were encoded once, or are encoded as they come.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentshift.data.loader import BatchSpec
from latentshift.models.fingerprint import model_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.build import build_objective
from latentshift.training.collate import Collator
from latentshift.training.data_source import DataContext
from latentshift.training.datasets import open_data
from latentshift.training.losses import LatentBatch
from latentshift.training.offload import OffloadedParts
from latentshift.training.precision import autocast_dtype, encoding_dtype
from latentshift.training.previews import write_previews
from latentshift.training.recipe import DiffusionSettings
from latentshift.training.validation import open_validation

_PREVIEW_PROMPTS = 8
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


class DenoisingStage:
    """A subclass defines what it starts from, what one batch is, and what it exports.

    Args:
        recipe: the stage's.
        pipeline: the model as it is before the first step.
        base: those of its parts that were there before the run.
        num_frames: of a sample.
        device: where it is trained.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.
    """

    def __init__(
        self,
        recipe: DiffusionSettings,
        pipeline: LatentShiftPipeline,
        base: Iterable[Any],
        num_frames: int,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.recipe = recipe
        self.pipeline = pipeline
        self.num_frames = num_frames
        self.device = device
        self.timesteps = int(pipeline.scheduler.config.num_train_timesteps)
        self.fingerprint = {"base": model_fingerprint(*base)}
        pipeline.set_progress_bar_config(disable=True)

        precision = recipe.compute.precision
        context = DataContext(
            pipeline, num_frames, device, precision, recipe.loading, recipe.motion_captions, recipe.seed, rank, ranks
        )
        images = num_frames == 1 or recipe.share_of_images > 0
        self.data = open_data(recipe.data, recipe.output, context, self.batch_spec, images=images)
        self.fingerprint |= self.data.digests
        self.validation = None
        if recipe.validation is not None:
            self.validation = open_validation(recipe.validation, self.data, recipe.output, context)

        text_encoded = self.data.text_encoded and not pipeline.sentences.is_trained
        text_encoded &= self.validation is None or self.validation.text_encoded
        self.collate = Collator(
            pipeline.vae,
            pipeline.sentences,
            timesteps=self.timesteps,
            seed=recipe.seed,
            text_encoded=text_encoded,
            device=device,
            dtype=encoding_dtype(precision),
        )
        self.objective = build_objective(
            pipeline,
            text_encoded=text_encoded,
            loss_weight=recipe.loss_weight,
            min_snr_gamma=recipe.min_snr_gamma,
            gradient_checkpointing=recipe.compute.gradient_checkpointing,
            compiled=recipe.compile,
        )
        unused = [] if any(not each.encode for each in recipe.all_data) else ["vae"]
        if text_encoded:
            unused += [name for name in _TEXT_ENCODERS if getattr(pipeline, name) is not None]
        self.offloaded = OffloadedParts(pipeline, unused, self.load_part)

    def batch_spec(self, step: int) -> BatchSpec:
        """Which samples a step takes."""
        size = self.recipe.batch_size
        return BatchSpec(size, self.num_frames, (step - 1) * size)

    def batches(self, step: int) -> Generator[LatentBatch]:
        with closing(self.data.loader.batches(step)) as batches:
            for batch in batches:
                yield self.collate(batch, self.recipe.caption_dropout)

    def describe_data(self) -> dict[str, Any]:
        held_out = {} if self.validation is None else self.validation.describe()
        return {"sources": self.data.describe(), **held_out}

    def data_lines(self) -> list[str]:
        return [*self.data.lines(), *([] if self.validation is None else self.validation.lines())]

    def data_issues(self) -> dict[str, list[Any]]:
        return {**self.data.issues(), **({} if self.validation is None else self.validation.issues())}

    @property
    def validation_id(self) -> str | None:
        return None if self.validation is None else self.validation.id

    def validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        dtype = autocast_dtype(self.recipe.compute.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):  # as a step, sharded or not
            return self.validation.measure(self.objective, self.collate, self.timesteps, self.device)

    def sample(self, folder: Path, step: int) -> None:
        recipe = self.recipe
        prompts = list(recipe.sample_prompts) or self.data.captions(_PREVIEW_PROMPTS)
        with self.offloaded.loaded():
            self.pipeline.to(self.device)
            write_previews(
                self.pipeline,
                prompts,
                folder / f"step-{step:08d}",
                num_frames=self.num_frames,
                num_inference_steps=recipe.sample_steps,
                guidance_scale=recipe.guidance_scale,
            )

    def load_part(self, name: str, kind: type[nn.Module]) -> nn.Module:
        """A part of the base, read again from its files."""
        raise NotImplementedError
