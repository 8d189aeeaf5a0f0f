"""Stages (b) and (c) of Fig. 3: a U-Net learns to make images, and then, with the shift in it, videos.

Both learn on latents that are encoded once and kept. Legend of shapes: B clips, F frames, C latent channels, h × w.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, LDMTextToImagePipeline, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from tqdm import tqdm

from latentshift.contact_sheet import contact_sheet, side_by_side
from latentshift.data.latents import LatentClips
from latentshift.data.order import draws, shuffled
from latentshift.data.sprites import Sprites, words
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.autoencoder import encode_moments, sample_moments
from latentshift.models.denoiser import compile_for_training
from latentshift.models.digest import model_digest, weights_digest
from latentshift.models.text import build_word_tokenizer, sentence_length, tokenize
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.objective import DenoisingObjective, LatentBatch
from latentshift.training.recipe import DiffusionSettings, ImageRecipe, VideoRecipe
from latentshift.video import as_clip, to_unit, write_video

_PREVIEW_PROMPTS = 8


class _DenoisingStage:
    """What stages (b) and (c) share; a subclass says what it starts from, what one sample is, and what it exports.

    Args:
        recipe: the stage's.
        pipeline: the model as it is before the first step.
        base: those of its parts that were there before the run.
        num_frames: of a sample.
        device: where it is trained.
    """

    def __init__(
        self,
        recipe: DiffusionSettings,
        pipeline: LatentShiftPipeline,
        base: Iterable[Any],
        num_frames: int,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.fingerprint = {"base": model_digest(*base)}
        self.device = device
        self.pipeline = pipeline
        self.num_frames = num_frames
        self.source = Sprites(size=recipe.data.size, seed=recipe.data.seed)
        if num_frames > self.source.num_frames:
            raise ValueError(f"the base makes {num_frames} frames, and the clips have {self.source.num_frames}")
        if recipe.data.size != pipeline.sample_size:
            raise ValueError(f"the base makes frames of {pipeline.sample_size} pixels; set data.size to that")
        pipeline.set_progress_bar_config(disable=True)
        pipeline.vae.requires_grad_(False)
        self.objective = DenoisingObjective(
            pipeline.unet, pipeline.text_encoder, pipeline.scheduler, recipe.loss_weight, recipe.min_snr_gamma
        )
        if recipe.compile:
            compile_for_training(pipeline.unet)
        self.moments = self._encoded_clips().moments
        length = sentence_length(pipeline.text_encoder, pipeline.tokenizer)
        self._tokenize = lambda captions: tokenize(pipeline.tokenizer, captions, length)

    def place(self, step: int) -> tuple[int, int, int]:
        """How many samples the batch of a step holds, of how many frames each, and where in the order it begins."""
        size = self.recipe.batch_size
        return size, self.num_frames, (step - 1) * size

    def batch(self, step: int) -> LatentBatch:
        recipe = self.recipe
        samples, num_frames, start = self.place(step)
        order = shuffled(len(self.moments), recipe.seed, start)
        total_steps = self.pipeline.scheduler.config.num_train_timesteps
        moments, noises, timesteps, captions = [], [], [], []
        for _, (epoch, index) in zip(range(samples), order, strict=False):
            rng = draws(recipe.seed, epoch, index)
            # An image whose caption tells of a motion is where that motion begins: else single frames would give no
            # reason to tell "left" from "right", and later clips would find the two words the same.
            with_motion = num_frames > 1 or rng.random() < recipe.motion_captions
            latest = 0 if num_frames == 1 and with_motion else self.moments.shape[1] - num_frames
            first = int(rng.integers(latest + 1))
            moments.append(self.moments[index, first : first + num_frames].astype(np.float32))
            _, channels, height, width = moments[-1].shape
            noises.append(rng.standard_normal((2, num_frames, channels // 2, height, width), dtype=np.float32))
            timesteps.append(int(rng.integers(total_steps)))
            dropped = rng.random() < recipe.caption_dropout
            captions.append("" if dropped else self.source.describe(index)[0].caption(with_motion=with_motion))
        noise = torch.from_numpy(np.stack(noises))
        scaling = self.pipeline.vae.config.scaling_factor
        return LatentBatch(
            latents=sample_moments(torch.from_numpy(np.stack(moments)), noise[:, 0], scaling),
            noise=noise[:, 1],
            timesteps=torch.tensor(timesteps),
            token_ids=self._tokenize(captions),
        )

    def sample(self, folder: Path, step: int) -> None:
        far = 2**40  # clips that training does not reach
        sprites = [self.source.describe(far + k)[0] for k in range(_PREVIEW_PROMPTS)]
        captions = [sprite.caption(with_motion=self.num_frames > 1) for sprite in sprites]
        self.pipeline.vae.to(self.device)  # the loop moves what it trains, and this is not trained
        videos = self.pipeline(
            captions,
            num_frames=self.num_frames,
            num_inference_steps=self.recipe.sample_steps,
            guidance_scale=self.recipe.guidance_scale,
            generator=[torch.Generator().manual_seed(k) for k in range(_PREVIEW_PROMPTS)],
            output_type="pil",
            return_dict=False,
        )[0]
        clips = [as_clip(video) for video in videos]
        name = folder / f"step-{step:08d}"
        write_video(name.with_suffix(".png"), contact_sheet(clips, captions)[None])
        if self.num_frames > 1:
            write_video(name.with_suffix(".mp4"), side_by_side(clips), fps=self.pipeline.config.fps)

    def _encoded_clips(self) -> LatentClips:
        recipe, autoencoder = self.recipe, self.pipeline.vae
        folder = recipe.latents or recipe.output / "latents"
        clips = LatentClips(folder, self.source, recipe.data.clips, {"autoencoder": weights_digest(autoencoder)})
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.compute.precision]
        autoencoder.to(self.device)

        def encoder(frames: np.ndarray) -> np.ndarray:
            pixels = to_unit(torch.from_numpy(frames).permute(0, 3, 1, 2))
            with torch.no_grad(), torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                return encode_moments(autoencoder, pixels.to(self.device)).float().cpu().numpy()

        with tqdm(total=clips.num_clips, initial=clips.done, desc="encode", unit="clip", mininterval=1.0) as bar:
            for done in clips.encode(encoder):
                bar.update(done - bar.n)
        return clips


class ImageStage(_DenoisingStage):
    """Stage (b): U-Net and text encoder from scratch, on single frames; exports a stock image pipeline."""

    recipe: ImageRecipe

    def __init__(self, recipe: ImageRecipe, device: torch.device) -> None:
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
        super().__init__(recipe, pipeline, base=(autoencoder, pipeline.scheduler), num_frames=1, device=device)

    def export(self, folder: Path) -> None:
        parts = self.pipeline
        LDMTextToImagePipeline(
            vqvae=parts.vae,
            bert=parts.text_encoder,
            tokenizer=parts.tokenizer,
            unet=parts.unet,
            scheduler=parts.scheduler,
        ).save_pretrained(folder)


class VideoStage(_DenoisingStage):
    """Stage (c): the shift installed on an image model, the U-Net fine-tuned on clips; exports our pipeline."""

    recipe: VideoRecipe

    def __init__(self, recipe: VideoRecipe, device: torch.device) -> None:
        torch.manual_seed(recipe.seed)
        run_of_ours = (recipe.base / "model").is_dir()
        base = recipe.base / "model" if run_of_ours else recipe.base
        if not base.is_dir():
            raise ValueError(f"there is no folder {base}: train stage (b) first, or set `base` to an image model")
        pipeline = LatentShiftPipeline.from_pretrained(base)
        if recipe.shift is not None:
            pipeline.set_shift(recipe.shift.to_dict())
        elif pipeline.config.shift is None:
            raise ValueError(
                f"{base} was saved without the temporal shift; say which with shift, e.g. shift={{fold: 3}}"
            )
        pipeline.scheduler = make_sampler("ddpm", pipeline.scheduler)  # others add noise in their own way
        if recipe.prediction_type is not None:
            pipeline.scheduler.register_to_config(prediction_type=recipe.prediction_type)
        pipeline.text_encoder.requires_grad_(recipe.train_text_encoder)
        base_parts = pipeline.components.values()
        super().__init__(recipe, pipeline, base_parts, num_frames=pipeline.config.num_frames, device=device)

    def place(self, step: int) -> tuple[int, int, int]:
        """Clips, or at ``image_share`` of the steps, evenly spread, as many single frames as those clips have.

        Clips and images go through the data each in an order of their own, so that neither leaves any out.
        """
        clips, num_frames, _ = super().place(step)
        share = Fraction(str(self.recipe.image_share))
        images_before, images_after = floor((step - 1) * share), floor(step * share)
        if images_after > images_before:
            return clips * num_frames, 1, images_before * clips * num_frames
        return clips, num_frames, (step - 1 - images_before) * clips

    def export(self, folder: Path) -> None:
        self.pipeline.register_to_config(guidance_scale=self.recipe.guidance_scale)
        for part in (self.pipeline, self.pipeline.unet, self.pipeline.vae):
            part.register_to_config(_name_or_path=None)  # a path of the machine that trained it
        self.pipeline.to(getattr(torch, self.recipe.weights))
        self.pipeline.save_pretrained(folder)
        self.pipeline.to(torch.float32)


def _build_unet(recipe: ImageRecipe, autoencoder: AutoencoderKL) -> UNet2DConditionModel:
    model = recipe.unet
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in model.attention]
    return UNet2DConditionModel(
        sample_size=recipe.data.size // 2 ** (len(autoencoder.config.block_out_channels) - 1),
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
