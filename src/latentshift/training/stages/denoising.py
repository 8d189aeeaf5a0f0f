"""What stages (b) and (c) of Fig. 3 share: a U-Net learns to predict the noise in latents.

The latents are of clips that were encoded once, or are encoded as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentshift.data.loader import BatchSpec
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.build import build_objective
from latentshift.training.collate import Collator
from latentshift.training.data_source import DataContext
from latentshift.training.datasets import TrainingData, open_data
from latentshift.training.losses import DenoisingLoss, LatentBatch
from latentshift.training.offload import OffloadedParts, PartLoader
from latentshift.training.precision import encoding_dtype
from latentshift.training.previews import Previews
from latentshift.training.recipe import DiffusionSettings
from latentshift.training.validation import Validation, open_validation

_PREVIEW_PROMPTS = 8
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class DenoisingParts:
    """What a denoising stage works with.

    Attributes:
        pipeline: the model as it is before the first step.
        data: of training.
        validation: None: there is none.
        collate: from samples to a batch.
        objective: from a batch to a loss.
        offloaded: what training does not use of the pipeline.
        previews: of the pipeline.
    """

    pipeline: LatentShiftPipeline
    data: TrainingData
    validation: Validation | None
    collate: Collator
    objective: DenoisingLoss
    offloaded: OffloadedParts
    previews: Previews


def build_parts(
    recipe: DiffusionSettings,
    pipeline: LatentShiftPipeline,
    num_frames: int,
    batch_spec: Callable[[int], BatchSpec],
    load_part: PartLoader,
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
) -> DenoisingParts:
    """Open the data, and build what turns its samples into a loss.

    Args:
        recipe: the stage's.
        pipeline: the model as it is before the first step.
        num_frames: of a sample.
        batch_spec: step (1, 2, …) -> which samples it takes.
        load_part: reads a part of the base again from its files.
        device: where it is trained.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.

    Raises:
        ValueError: for sources that can't be read, hold nothing of use, or were encoded by another model.
    """
    compute, output = recipe.compute, recipe.output
    context = DataContext(
        pipeline,
        num_frames,
        device,
        compute.precision,
        recipe.loading,
        motion_captions=recipe.motion_captions,
        seed=recipe.seed,
        rank=rank,
        ranks=ranks,
    )
    images = num_frames == 1 or recipe.share_of_images > 0
    data = open_data(recipe.data, output, context, batch_spec, images=images)
    validation = None if recipe.validation is None else open_validation(recipe.validation, data, output, context)

    text_encoded = data.text_encoded and not pipeline.sentences.is_trained
    text_encoded &= validation is None or validation.text_encoded
    collate = Collator(
        pipeline.vae,
        pipeline.sentences,
        timesteps=int(pipeline.scheduler.config.num_train_timesteps),
        seed=recipe.seed,
        text_encoded=text_encoded,
        device=device,
        dtype=encoding_dtype(compute.precision),
    )
    objective = build_objective(
        pipeline,
        text_encoded=text_encoded,
        loss_weight=recipe.loss_weight,
        min_snr_gamma=recipe.min_snr_gamma,
        sigma_data=recipe.sigma_data,
        gradient_checkpointing=compute.gradient_checkpointing,
        compiled=recipe.compile,
    )
    unused = [] if recipe.decodes_at_each_step else ["vae"]
    if text_encoded:
        unused += [name for name in _TEXT_ENCODERS if getattr(pipeline, name) is not None]
    offloaded = OffloadedParts(pipeline, unused, load_part)
    previews = Previews(
        pipeline,
        offloaded,
        device,
        num_frames=num_frames,
        num_inference_steps=recipe.sample_steps,
        guidance_scale=recipe.guidance_scale,
    )
    return DenoisingParts(pipeline, data, validation, collate, objective, offloaded, previews)


class DenoisingStage:
    """A :class:`latentshift.training.stages.base.Stage`; a subclass opens its model and exports it.

    Args:
        parts: of the stage.
        fingerprint: what the run started from, by name.
        caption_dropout: the share of captions that are dropped in training.
        sample_prompts: of the previews; empty: captions of the data.
    """

    def __init__(
        self,
        parts: DenoisingParts,
        fingerprint: Mapping[str, str],
        *,
        caption_dropout: float,
        sample_prompts: tuple[str, ...],
    ) -> None:
        self.pipeline = parts.pipeline
        self.data = parts.data
        self.validation = parts.validation
        self.collate = parts.collate
        self.objective = parts.objective
        self.offloaded = parts.offloaded
        self.previews = parts.previews
        self.fingerprint = fingerprint
        self.caption_dropout = caption_dropout
        self.sample_prompts = sample_prompts

    def batches(self, step: int) -> Generator[LatentBatch]:
        with closing(self.data.loader.batches(step)) as batches:
            for batch in batches:
                yield self.collate(batch, self.caption_dropout)

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
        return self.validation.measure(self.objective, self.collate, self.collate.timesteps)

    def sample(self, folder: Path, step: int) -> None:
        prompts = self.sample_prompts or self.data.captions(_PREVIEW_PROMPTS)
        self.previews.write(prompts, folder / f"step-{step:08d}")
