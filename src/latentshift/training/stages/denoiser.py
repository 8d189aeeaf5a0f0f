"""Stages (b) and (c) of Fig. 3: a U-Net learns to make images, and then, with the shift in it, videos.

Both learn on latents, of clips that were encoded once or are encoded as they come.
Legend of shapes: B clips, F frames, C latent channels, h × w.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from functools import cached_property
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, LDMTextToImagePipeline
from torch import nn

from latentshift.contact_sheet import contact_sheet, side_by_side
from latentshift.data.loader import Batch, BatchSpec
from latentshift.data.sample_order import rng_for
from latentshift.files import atomic_write
from latentshift.model_paths import BUNDLED, resolve_model
from latentshift.models.adapter import add_lora, merge_lora, save_delta, save_lora
from latentshift.models.autoencoder import sample_moments
from latentshift.models.encoders import frame_encoder
from latentshift.models.families import load_part
from latentshift.models.fingerprint import model_fingerprint, weights_fingerprint
from latentshift.models.text import SentenceEncoder
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.training.build import (
    autoencoder_folder,
    build_objective,
    lora_settings,
    new_image_model,
    prepare_video_model,
)
from latentshift.training.data_source import DataSource, worker_limits
from latentshift.training.datasets import all_sources, open_data, restore_replaced
from latentshift.training.losses import LatentBatch
from latentshift.training.precision import autocast_dtype, encoding_dtype
from latentshift.training.recipe import DiffusionSettings, ImageRecipe, ValidationSettings, VideoRecipe
from latentshift.training.validation import Validation, validation_id
from latentshift.video import as_clip, write_video

_PREVIEW_PROMPTS = 8
_NO_IMAGES = "validation is of clips alone"
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


class _DenoisingStage:
    """What stages (b) and (c) share; a subclass says what it starts from, what one sample is, and what it exports.

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
        self.fingerprint = {"base": model_fingerprint(*base)}
        self.device = device
        self.pipeline = pipeline
        self.num_frames = num_frames
        pipeline.set_progress_bar_config(disable=True)
        self.data = open_data(recipe, pipeline, num_frames, self.take, device, rank, ranks)
        self.fingerprint |= self.data.digests
        self._text_encoded = self.data.text_encoded
        self.validation_id: str | None = None
        self._held_out: list[DataSource] = []
        self._validation = None
        if recipe.validation is not None:
            self._validation = self._open_validation(recipe.validation, main=rank == 0)
        self.objective = build_objective(recipe, pipeline, text_encoded=self._text_encoded)
        put_away = [] if any(not each.encode for each in all_sources(recipe)) else ["vae"]
        if self._text_encoded:
            put_away += [name for name in _TEXT_ENCODERS if getattr(pipeline, name) is not None]
        self._away = {name: weights_fingerprint(getattr(pipeline, name)) for name in put_away}
        for name in put_away:
            getattr(pipeline, name).to("meta")

    def take(self, step: int) -> BatchSpec:
        """What a step takes of the data."""
        size = self.recipe.batch_size
        return BatchSpec(size, self.num_frames, (step - 1) * size)

    def batches(self, step: int) -> Generator[LatentBatch]:
        with closing(self.data.loader.batches(step)) as batches:
            for batch in batches:
                yield self._collated(batch, self.recipe.caption_dropout)

    def validate(self) -> dict[str, float]:
        if self._validation is None:
            return {}
        total, dtype = self.pipeline.scheduler.config.num_train_timesteps, autocast_dtype(self.recipe.compute.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):  # as a step, however it is shared
            return self._validation(self.objective, total, self.device)

    def _open_validation(self, settings: ValidationSettings, *, main: bool) -> Validation:
        recipe, sets, digests = self.recipe, self.data.loader.sets, list(self.data.digests.values())
        if settings.data is not None:
            own = recipe.model_copy(update={"data": settings.data, "output": recipe.output / "validation"})
            opened = [
                DataSource(own, number, self.pipeline, self.num_frames, self.device, main=main, no_images=_NO_IMAGES)
                for number in range(len(settings.data))
            ]
            for each in opened:
                each.check_use(self.num_frames, images=self.num_frames == 1)
            self._text_encoded &= all(each.text_encoded for each in opened)
            self._held_out = opened
            sets = [each.clips for each in opened]
            digests = [each.digest for each in opened]
        self.validation_id = validation_id(settings, digests)
        limits = worker_limits(recipe) if recipe.loading.workers else None

        def collated(batch: Batch) -> LatentBatch:
            return self._collated(batch, 0.0)

        validation = Validation(settings, sets, self.num_frames, recipe.seed, limits, collated)
        restore_replaced(validation.loader, recipe.output, "replaced_in_validation")
        return validation

    def describe_data(self) -> dict[str, Any]:
        held_out = [each.listed(self.num_frames, images=self.num_frames == 1) for each in self._held_out]
        return {"sources": self.data.listed(), **({"validation": held_out} if held_out else {})}

    def data_lines(self) -> list[str]:
        held_out = [each.line(self.num_frames, images=self.num_frames == 1) for each in self._held_out]
        return [*self.data.lines(), *(f"validation: {line}" for line in held_out)]

    def data_issues(self) -> dict[str, list[Any]]:
        found = self.data.data_issues()
        return found if self._validation is None else {**found, "replaced_in_validation": self._validation.replaced()}

    @cached_property
    def _encode(self) -> Callable[[np.ndarray], np.ndarray]:
        return frame_encoder(self.pipeline.vae, self.device, encoding_dtype(self.recipe.compute.precision))

    @cached_property
    def _sentences(self) -> SentenceEncoder:
        return self.pipeline.sentences

    def _collated(self, batch: Batch, dropout: float) -> LatentBatch:
        recipe, samples = self.recipe, batch.samples
        total_steps = self.pipeline.scheduler.config.num_train_timesteps
        moments, noises, timesteps, dropped = [], [], [], []
        for sample, place in zip(samples, batch.places, strict=True):
            encoded = sample.content.dtype == np.float16
            moments.append(sample.content.astype(np.float32) if encoded else self._encode(sample.content))
            frames, channels, height, width = moments[-1].shape
            rng = rng_for(recipe.seed, *place)
            noises.append(rng.standard_normal((2, frames, channels // 2, height, width), dtype=np.float32))
            timesteps.append(int(rng.integers(total_steps)))
            dropped.append(rng.random() < dropout)
        noise = torch.from_numpy(np.stack(noises))
        text = token_ids = None
        if self._text_encoded:
            chosen = [sample.empty if drop else sample.text for sample, drop in zip(samples, dropped, strict=True)]
            text = torch.from_numpy(np.stack([each for each in chosen if each is not None])).float()
        else:
            token_ids = self._sentences.tokenize(
                ["" if drop else sample.caption for sample, drop in zip(samples, dropped, strict=True)]
            )
        return LatentBatch(
            latents=sample_moments(self.pipeline.vae, torch.from_numpy(np.stack(moments)), noise[:, 0]),
            noise=noise[:, 1],
            timesteps=torch.tensor(timesteps),
            token_ids=token_ids,
            text=text,
            names=lambda: [each.name for each in batch.requests],
        )

    def sample(self, folder: Path, step: int) -> None:
        captions = list(self.recipe.sample_prompts) or self.data.captions(_PREVIEW_PROMPTS)
        clips = []
        with self.all_parts():
            self.pipeline.to(self.device)
            for number, caption in enumerate(captions):  # one by one: what trains has memory for that
                (video,) = self.pipeline(
                    caption,
                    num_frames=self.num_frames,
                    num_inference_steps=self.recipe.sample_steps,
                    guidance_scale=self.recipe.guidance_scale,
                    generator=torch.Generator().manual_seed(number),
                    output_type="pil",
                    return_dict=False,
                    decode_chunk_size=1,
                )[0]
                clips.append(as_clip(video))
        name = folder / f"step-{step:08d}"
        if self.num_frames > 1:
            write_video(name.with_suffix(".mp4"), side_by_side(clips), fps=self.pipeline.config.fps)
        write_video(name.with_suffix(".png"), contact_sheet(clips, captions)[None])  # last: it says that all is there

    @contextmanager
    def all_parts(self) -> Iterator[None]:
        """Inside, all of the pipeline is there: what training has no use for takes memory here alone.

        Raises:
            ValueError: if the base has changed since the run began.
        """
        shapes = {name: getattr(self.pipeline, name) for name in self._away}
        loaded = {name: self.load_part(name, type(part)).to(part.dtype) for name, part in shapes.items()}
        for name, part in loaded.items():
            if weights_fingerprint(part) != self._away[name]:
                raise ValueError(f"the {name} of the base has changed while the run was going on; put the old one back")
        self.pipeline.register_modules(**loaded)
        try:
            yield
        finally:
            self.pipeline.register_modules(**shapes)

    def load_part(self, name: str, kind: type[nn.Module]) -> nn.Module:
        """A part of what the stage started from, read anew."""
        raise NotImplementedError


class ImageStage(_DenoisingStage):
    """Stage (b): U-Net and text encoder from scratch, on single frames; exports a stock image pipeline."""

    recipe: ImageRecipe

    def __init__(self, recipe: ImageRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        autoencoder = AutoencoderKL.from_pretrained(autoencoder_folder(recipe), use_safetensors=True)
        pipeline = new_image_model(recipe, autoencoder)
        super().__init__(recipe, pipeline, (autoencoder, pipeline.scheduler), 1, device, rank, ranks)

    def load_part(self, name: str, kind: type[nn.Module]) -> nn.Module:
        assert name == "vae"
        return AutoencoderKL.from_pretrained(autoencoder_folder(self.recipe), use_safetensors=True)

    def export(self, output: Path) -> None:
        parts = self.pipeline
        with self.all_parts(), atomic_write(output / "model") as folder:
            stock = LDMTextToImagePipeline(
                vqvae=parts.vae,
                bert=parts.text_encoder,
                tokenizer=parts.tokenizer,
                unet=parts.unet,
                scheduler=parts.scheduler,
            )
            stock.save_pretrained(folder)


class VideoStage(_DenoisingStage):
    """Stage (c): frames meet in an image model, the U-Net is fine-tuned on clips; exports our pipeline."""

    recipe: VideoRecipe

    def __init__(self, recipe: VideoRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        try:
            pipeline = open_pipeline(recipe.model)
        except ValueError as error:
            is_there = recipe.model == BUNDLED or Path(recipe.model).exists()
            hint = "" if is_there else "; train stage (b) first if it is a run"
            raise ValueError(f"{error}{hint}") from error
        former = pipeline.temporal
        prepare_video_model(recipe, pipeline)
        # New layers are this run's own: another library may draw them differently, and a checkpoint holds them.
        base_parts = {**pipeline.components, "temporal": former if pipeline.temporal is former else None}
        super().__init__(recipe, pipeline, base_parts.values(), pipeline.config.num_frames, device, rank, ranks)
        for name in ("shift", "num_frames"):
            self.fingerprint[name] = json.dumps(pipeline.config[name], sort_keys=True)
        if recipe.lora is not None:
            add_lora(pipeline.unet, lora_settings(recipe))

    def take(self, step: int) -> BatchSpec:
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
        with self.all_parts():
            self._export(output)

    def _export(self, output: Path) -> None:
        recipe, pipeline = self.recipe, self.pipeline
        if recipe.guidance_scale is not None:
            pipeline.register_to_config(guidance_scale=recipe.guidance_scale)
        wanted = recipe.exports or (("model",) if recipe.lora is None else ("lora",))
        if "lora" in wanted:
            save_lora(pipeline, lora_settings(recipe), output / "lora.safetensors")
        if recipe.lora is not None and wanted != ("lora",):
            merge_lora(pipeline.unet)
        if "delta" in wanted:
            save_delta(pipeline, open_pipeline(recipe.model), output / "delta.safetensors")
        if "model" not in wanted:
            return
        for part in (pipeline, pipeline.unet, pipeline.vae, pipeline.temporal):
            if part is not None:
                part.register_to_config(_name_or_path=None)  # a path of the machine that trained it
        pipeline.to(getattr(torch, recipe.weights))
        with atomic_write(output / "model") as folder:
            pipeline.save_pretrained(folder)
        pipeline.to(torch.float32)
