"""What stages (b) and (c) of Fig. 3 share with that of ControlNets: to learn to predict the noise in latents.

The latents are of clips that were encoded once, or are encoded as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel

from latentshift.data.loader import BatchSpec
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.data.collate import Collator
from latentshift.training.data.datasets import open_data
from latentshift.training.data.source import DataContext
from latentshift.training.losses import LatentBatch
from latentshift.training.models.build import build_objective
from latentshift.training.monitoring.previews import Previews
from latentshift.training.monitoring.validation import Validation, open_validation
from latentshift.training.offload import OffloadedParts, PartLoader
from latentshift.training.precision import encoding_dtype
from latentshift.training.recipes.diffusion import DiffusionSettings

PREVIEW_PROMPTS = 8
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


class DenoisingStage:
    """A :class:`latentshift.training.stages.base.Stage`; a subclass opens its model and exports it.

    Args:
        recipe: the stage's.
        pipeline: the model as it is before the first step, with all that is trained.
        num_frames: of a sample.
        batch_spec: step (1, 2, …) -> which samples it takes.
        load_part: reads a part of the base again from its files.
        controlnet: that is trained in place of the U-Net.
        condition: uint8 frames (F, S, S, 3) -> the pictures of the ControlNet, likewise.
        base_fingerprint: of the base.
        pipeline_settings: that a checkpoint belongs to, by name.
        device: where it is trained.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.

    Attributes:
        pipeline: the model.
        data: of training.
        validation: None: there is none.
        collate: from samples to a batch.
        objective: from a batch to a loss.
        offloaded: what training does not use of the pipeline.
        previews: of the pipeline.
        fingerprint: what the run started from, by name.
        caption_dropout: the share of captions that are dropped in training.
        sample_prompts: of the previews; empty: captions of the data.

    Raises:
        ValueError: for sources that can't be read, hold nothing of use, or were encoded by another model.
    """

    def __init__(
        self,
        recipe: DiffusionSettings,
        pipeline: LatentShiftPipeline,
        num_frames: int,
        batch_spec: Callable[[int], BatchSpec],
        load_part: PartLoader,
        *,
        controlnet: ControlNetModel | None = None,
        condition: Callable[[np.ndarray], np.ndarray] | None = None,
        base_fingerprint: str,
        pipeline_settings: Mapping[str, str] | None = None,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
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
        self.pipeline = pipeline
        reason = recipe.images_unused_reason(recipe.data[0])
        self.data = open_data(recipe.data, output, context, batch_spec, images=images, images_unused_reason=reason)
        self.validation: Validation | None = None
        if recipe.validation is not None:
            self.validation = open_validation(recipe.validation, self.data, output, context)
        # A tokenizer is saved with its last call's padding: the export does not depend on what a run had left to do.
        pipeline.text_encoders.tokenize([""])
        self.fingerprint = {"base": base_fingerprint, **self.data.digests, **(pipeline_settings or {})}
        self._batch_size = recipe.batch_size
        self.caption_dropout = recipe.caption_dropout
        self.sample_prompts = recipe.sample_prompts

        text_encoded = self._all_text_is_encoded()
        self.collate = Collator(
            pipeline.vae,
            pipeline.text_encoders,
            timesteps=int(pipeline.scheduler.config.num_train_timesteps),
            seed=recipe.seed,
            text_encoded=text_encoded,
            device=device,
            dtype=encoding_dtype(compute.precision),
            known_share=recipe.share_of_known,
            condition=condition,
        )
        self.objective = build_objective(
            pipeline,
            text_encoded=text_encoded,
            loss_weight=recipe.loss_weight,
            min_snr_gamma=recipe.min_snr_gamma,
            sigma_data=recipe.sigma_data,
            gradient_checkpointing=compute.gradient_checkpointing,
            compiled=recipe.compile,
            controlnet=controlnet,
        )
        self.offloaded = OffloadedParts(pipeline, _unused_parts(pipeline, recipe, text_encoded), load_part)
        self.previews = Previews(
            pipeline,
            self.offloaded,
            device,
            num_frames=num_frames,
            num_inference_steps=recipe.sample_steps,
            guidance_scale=recipe.guidance_scale,
            controlnet=controlnet,
        )

    def _all_text_is_encoded(self) -> bool:
        """Whether no text encoder is needed in training: all captions lie beside the data as embeddings."""
        of_validation = self.validation is None or self.validation.text_encoded
        return self.data.text_encoded and of_validation and not self.pipeline.text_encoders.is_trained

    def batches(self, step: int) -> Generator[LatentBatch]:
        with closing(self.data.loader.batches(step)) as batches:
            for batch in batches:
                yield self.collate(batch, self.caption_dropout)

    def samples_until(self, step: int) -> int:
        return step * self._batch_size

    def describe_data(self) -> dict[str, Any]:
        held_out = {} if self.validation is None else self.validation.describe()
        return {"sources": self.data.describe(), **held_out}

    def data_summary(self) -> list[str]:
        return [*self.data.summary_lines(), *([] if self.validation is None else self.validation.summary_lines())]

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
        prompts = self.sample_prompts or self.data.captions(PREVIEW_PROMPTS)
        self.previews.write(prompts, folder / f"step-{step:08d}")


def _unused_parts(pipeline: LatentShiftPipeline, recipe: DiffusionSettings, text_encoded: bool) -> list[str]:
    """What training does not use of a pipeline: parts that can leave the device."""
    unused = [] if recipe.decodes_at_each_step else ["vae"]
    if text_encoded:
        unused += [name for name in _TEXT_ENCODERS if getattr(pipeline, name) is not None]
    return unused
