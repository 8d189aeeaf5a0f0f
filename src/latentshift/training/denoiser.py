"""Stages (b) and (c) of Fig. 3: a U-Net learns to make images, and then, with the shift in it, videos.

Both learn on latents, of clips that were encoded once or are encoded as they come.
Legend of shapes: B clips, F frames, C latent channels, h × w.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, LDMTextToImagePipeline, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

from latentshift.contact_sheet import contact_sheet, side_by_side
from latentshift.data.loader import Batch, Take
from latentshift.data.order import draws
from latentshift.data.sprites import words
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import make_sampler
from latentshift.locate import locate_model
from latentshift.models.adapter import Lora, add_lora, merge_lora, save_delta, save_lora
from latentshift.models.autoencoder import sample_moments
from latentshift.models.denoiser import compile_for_training
from latentshift.models.digest import model_digest
from latentshift.models.encoders import frame_encoder
from latentshift.models.text import build_word_tokenizer
from latentshift.pipeline import METHODS, LatentShiftPipeline
from latentshift.training.data import open_data
from latentshift.training.objective import DenoisingObjective, LatentBatch
from latentshift.training.recipe import DiffusionSettings, ImageRecipe, ValidationSettings, VideoRecipe
from latentshift.training.source import OpenSource, autocast_dtype, reading_limits
from latentshift.training.validation import Validation
from latentshift.video import as_clip, write_video
from latentshift.whole import whole

_PREVIEW_PROMPTS = 8


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
        self.fingerprint = {"base": model_digest(*base)}
        self.device = device
        self.pipeline = pipeline
        self.num_frames = num_frames
        pipeline.set_progress_bar_config(disable=True)
        pipeline.vae.requires_grad_(False)
        self.data = open_data(recipe, pipeline, num_frames, self.take, device, rank, ranks)
        self.fingerprint |= self.data.digests
        self.sentences = pipeline.sentences
        self.objective = DenoisingObjective(
            pipeline.unet,
            self.sentences,
            pipeline.scheduler,
            recipe.loss_weight,
            recipe.min_snr_gamma,
            pipeline.temporal,
            pipeline.vae_scale_factor,
        )
        if recipe.compute.gradient_checkpointing:
            pipeline.unet.enable_gradient_checkpointing()
        if recipe.compile:
            compile_for_training(pipeline.unet)
        self._encode = frame_encoder(pipeline.vae, device, autocast_dtype(recipe))
        self._validation = None if recipe.validation is None else self._open_validation(recipe.validation)

    def take(self, step: int) -> Take:
        """What a step takes of the data."""
        size = self.recipe.batch_size
        return Take(size, self.num_frames, (step - 1) * size)

    def batches(self, step: int) -> Generator[LatentBatch]:
        with closing(self.data.loader.batches(step)) as batches:
            for batch in batches:
                yield self._collated(batch, self.recipe.caption_dropout)

    def validate(self) -> dict[str, float]:
        if self._validation is None:
            return {}
        total = self.pipeline.scheduler.config.num_train_timesteps
        return self._validation(self.objective, total, self.device)

    def _open_validation(self, settings: ValidationSettings) -> Validation:
        recipe, sets = self.recipe, self.data.loader.sets
        if settings.data is not None:
            own = recipe.model_copy(update={"data": settings.data, "output": recipe.output / "validation"})
            opened = [
                OpenSource(own, number, self.pipeline, self.num_frames, self.device)
                for number in range(len(settings.data))
            ]
            for each in opened:
                each.check_use(self.num_frames, images=self.num_frames == 1)
            sets = [each.clips for each in opened]
        limits = reading_limits(recipe) if recipe.loading.workers else None

        def collated(batch: Batch) -> LatentBatch:
            return self._collated(batch, 0.0)

        return Validation(settings, sets, self.num_frames, recipe.seed, limits, collated)

    def report(self) -> dict[str, Any]:
        return self.data.report()

    def _collated(self, batch: Batch, dropout: float) -> LatentBatch:
        recipe, samples = self.recipe, batch.samples
        total_steps = self.pipeline.scheduler.config.num_train_timesteps
        moments, noises, timesteps, dropped = [], [], [], []
        for sample, place in zip(samples, batch.places, strict=True):
            encoded = sample.content.dtype == np.float16
            moments.append(sample.content.astype(np.float32) if encoded else self._encode(sample.content))
            frames, channels, height, width = moments[-1].shape
            rng = draws(recipe.seed, *place)
            noises.append(rng.standard_normal((2, frames, channels // 2, height, width), dtype=np.float32))
            timesteps.append(int(rng.integers(total_steps)))
            dropped.append(rng.random() < dropout)
        noise = torch.from_numpy(np.stack(noises))
        scaling = self.pipeline.vae.config.scaling_factor
        text = token_ids = None
        if self.data.text_encoded and all(sample.text is not None for sample in samples):
            chosen = [sample.empty if drop else sample.text for sample, drop in zip(samples, dropped, strict=True)]
            text = torch.from_numpy(np.stack([each for each in chosen if each is not None])).float()
        else:
            token_ids = self.sentences.tokenize(
                ["" if drop else sample.caption for sample, drop in zip(samples, dropped, strict=True)]
            )
        return LatentBatch(
            latents=sample_moments(torch.from_numpy(np.stack(moments)), noise[:, 0], scaling),
            noise=noise[:, 1],
            timesteps=torch.tensor(timesteps),
            token_ids=token_ids,
            text=text,
            names=lambda: [each.name for each in batch.requests],
        )

    def sample(self, folder: Path, step: int) -> None:
        captions = list(self.recipe.sample_prompts) or self.data.captions(_PREVIEW_PROMPTS)
        self.pipeline.vae.to(self.device)  # the loop moves what it trains, and this is not trained
        videos = self.pipeline(
            captions,
            num_frames=self.num_frames,
            num_inference_steps=self.recipe.sample_steps,
            guidance_scale=self.recipe.guidance_scale,
            generator=[torch.Generator().manual_seed(k) for k in range(len(captions))],
            output_type="pil",
            return_dict=False,
        )[0]
        clips = [as_clip(video) for video in videos]
        name = folder / f"step-{step:08d}"
        write_video(name.with_suffix(".png"), contact_sheet(clips, captions)[None])
        if self.num_frames > 1:
            write_video(name.with_suffix(".mp4"), side_by_side(clips), fps=self.pipeline.config.fps)


class ImageStage(_DenoisingStage):
    """Stage (b): U-Net and text encoder from scratch, on single frames; exports a stock image pipeline."""

    recipe: ImageRecipe

    def __init__(self, recipe: ImageRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        folder = recipe.autoencoder / "model"
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}: train stage (a) first, or set `autoencoder` to its run")
        autoencoder = AutoencoderKL.from_pretrained(folder, use_safetensors=True)
        pipeline = LatentShiftPipeline(
            vae=autoencoder,
            text_encoder=_build_text_encoder(recipe, tokenizer := build_word_tokenizer(words(), recipe.text.tokens)),
            tokenizer=tokenizer,
            unet=_build_unet(recipe, autoencoder),
            scheduler=paper_scheduler(recipe.prediction_type or "epsilon"),
        )
        super().__init__(recipe, pipeline, (autoencoder, pipeline.scheduler), 1, device, rank, ranks)

    def export(self, output: Path) -> None:
        parts = self.pipeline
        stock = LDMTextToImagePipeline(
            vqvae=parts.vae,
            bert=parts.text_encoder,
            tokenizer=parts.tokenizer,
            unet=parts.unet,
            scheduler=parts.scheduler,
        )
        with whole(output / "model") as folder:
            stock.save_pretrained(folder)


class VideoStage(_DenoisingStage):
    """Stage (c): frames meet in an image model, the U-Net is fine-tuned on clips; exports our pipeline."""

    recipe: VideoRecipe

    def __init__(self, recipe: VideoRecipe, device: torch.device, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        base = locate_model(recipe.model)
        try:
            pipeline = LatentShiftPipeline.from_pretrained(base)
        except Exception as error:  # whatever a damaged folder, or the hub, makes the libraries raise
            reason = " ".join(str(error).split()) or type(error).__name__
            where = "" if Path(base).is_dir() else f"; there is no folder {base}: train stage (b) first if it is a run"
            raise ValueError(f"the model {recipe.model} cannot be loaded{where} ({reason})") from error
        if recipe.method is not None:
            pipeline.set_method(recipe.method)
        elif pipeline.method == "none" and recipe.shift is None:
            raise ValueError(
                f"{base} was saved without anything that lets frames meet; say what is to be trained with "
                f"method={' or method='.join(METHODS)}"
            )
        if recipe.shift is not None:
            pipeline.set_shift(recipe.shift.to_dict())
        _settle_shape(recipe, pipeline)
        pipeline.scheduler = make_sampler("ddpm", pipeline.scheduler)  # others add noise in their own way
        if recipe.prediction_type is not None:
            pipeline.scheduler.register_to_config(prediction_type=recipe.prediction_type)
        pipeline.sentences.requires_grad_(recipe.train_text_encoder)
        base_parts = pipeline.components.values()
        super().__init__(recipe, pipeline, base_parts, pipeline.config.num_frames, device, rank, ranks)
        if recipe.lora is not None:
            add_lora(pipeline.unet, _lora(recipe))

    def take(self, step: int) -> Take:
        """Clips, or at ``image_share`` of the steps, evenly spread, as many single frames as those clips have.

        Clips and images go through the data each in an order of their own, so that neither leaves any out.
        """
        clips, num_frames = self.recipe.batch_size, self.num_frames
        share = Fraction(str(self.recipe.image_share))
        images_before, images_after = floor((step - 1) * share), floor(step * share)
        if images_after > images_before:
            return Take(clips * num_frames, 1, images_before * clips * num_frames)
        return Take(clips, num_frames, (step - 1 - images_before) * clips)

    def export(self, output: Path) -> None:
        recipe, pipeline = self.recipe, self.pipeline
        if recipe.guidance_scale is not None:
            pipeline.register_to_config(guidance_scale=recipe.guidance_scale)
        wanted = recipe.exports or (("model",) if recipe.lora is None else ("lora",))
        if "lora" in wanted:
            save_lora(pipeline, _lora(recipe), output / "lora.safetensors")
        if recipe.lora is not None and wanted != ("lora",):
            merge_lora(pipeline.unet)
        if "delta" in wanted:
            save_delta(
                pipeline, LatentShiftPipeline.from_pretrained(locate_model(recipe.model)), output / "delta.safetensors"
            )
        if "model" not in wanted:
            return
        for part in (pipeline, pipeline.unet, pipeline.vae, pipeline.temporal):
            if part is not None:
                part.register_to_config(_name_or_path=None)  # a path of the machine that trained it
        pipeline.to(getattr(torch, recipe.weights))
        with whole(output / "model") as folder:
            pipeline.save_pretrained(folder)
        pipeline.to(torch.float32)


def _settle_shape(recipe: VideoRecipe, pipeline: LatentShiftPipeline) -> None:
    """What shape the model's videos have from now on."""
    if recipe.size is not None:
        scale = pipeline.vae_scale_factor
        least = scale * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
        if recipe.size % least:
            raise ValueError(f"size must be a multiple of {least} for this model, not {recipe.size}")
        pipeline.unet.register_to_config(sample_size=recipe.size // scale)
    wanted = {"num_frames": recipe.num_frames, "fps": recipe.fps}
    pipeline.register_to_config(**{name: value for name, value in wanted.items() if value is not None})


def _lora(recipe: VideoRecipe) -> Lora:
    assert recipe.lora is not None
    return Lora(**recipe.lora.model_dump())


def _build_unet(recipe: ImageRecipe, autoencoder: AutoencoderKL) -> UNet2DConditionModel:
    model = recipe.unet
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in model.attention]
    return UNet2DConditionModel(
        sample_size=autoencoder.config.sample_size // 2 ** (len(autoencoder.config.block_out_channels) - 1),
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        block_out_channels=model.channels,
        layers_per_block=model.layers_per_block,
        attention_head_dim=model.heads,
        cross_attention_dim=recipe.text.width,
        norm_num_groups=model.norm_groups,
        down_block_types=down,
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(down)],
    )


def _build_text_encoder(recipe: ImageRecipe, tokenizer: object) -> LDMBertModel:
    text = recipe.text
    encoder = LDMBertModel(
        LDMBertConfig(
            vocab_size=len(tokenizer),  # type: ignore[arg-type]
            max_position_embeddings=text.tokens,
            encoder_layers=text.layers,
            encoder_ffn_dim=4 * text.width,
            encoder_attention_heads=text.heads,
            head_dim=text.width // text.heads,
            d_model=text.width,
            dropout=0.0,
        )
    )
    # Words begin far apart (LDM-BERT's own start is 0.02): single frames give no reason to tell "left" from "right",
    # and stage (c) would be handed nearly the same for both (docs/log.md, 2026-11-21).
    torch.nn.init.normal_(encoder.model.embed_tokens.weight)
    return encoder
