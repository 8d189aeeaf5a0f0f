"""From a recipe to the model that its stage trains, before anything is trained or read.

The same with real weights, for training, and with weights that are shapes alone, for sizing a run.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from transformers import PreTrainedTokenizerBase

from latentshift.data.sprites import words
from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.adapter import Lora
from latentshift.models.autoencoder import build_autoencoder
from latentshift.models.base_settings import check_trainable
from latentshift.models.denoiser import compile_for_training
from latentshift.models.text import build_word_tokenizer
from latentshift.pipeline import METHODS, LatentShiftPipeline
from latentshift.training.losses import DenoisingLoss
from latentshift.training.recipe import AutoencoderRecipe, DiffusionSettings, ImageRecipe, VideoRecipe


def new_autoencoder(recipe: AutoencoderRecipe) -> AutoencoderKL:
    """Stage (a)'s model, with random weights."""
    model = recipe.model
    return build_autoencoder(
        channels=model.channels,
        layers_per_block=model.layers_per_block,
        latent_channels=model.latent_channels,
        norm_groups=model.norm_groups,
        size=recipe.data.size,
    )


def autoencoder_folder(recipe: ImageRecipe) -> Path:
    """The folder of the autoencoder that stage (b) starts from.

    Raises:
        ValueError: if there is none.
    """
    folder = recipe.autoencoder / "model"
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: train stage (a) first, or set `autoencoder` to its run")
    return folder


def new_image_model(recipe: ImageRecipe, autoencoder: AutoencoderKL) -> LatentShiftPipeline:
    """Stage (b)'s model: U-Net and text encoder with random weights, around a trained autoencoder."""
    tokenizer = build_word_tokenizer(words(), recipe.text.tokens)
    autoencoder.requires_grad_(False)
    return LatentShiftPipeline(
        vae=autoencoder,
        text_encoder=_build_text_encoder(recipe, tokenizer),
        tokenizer=tokenizer,
        unet=_build_unet(recipe, autoencoder),
        scheduler=paper_scheduler(recipe.prediction_type or "epsilon"),
    )


def prepare_video_model(recipe: VideoRecipe, pipeline: LatentShiftPipeline) -> None:
    """Turn a base into stage (c)'s model, in place: how frames meet, their shape, what is predicted, what is trained.

    Raises:
        ValueError: for settings that the base can't take.
    """
    check_trainable(pipeline.components)
    if pipeline.temporal is not None and recipe.method not in (None, "latent-vdm"):
        raise ValueError(
            f"{recipe.model} has temporal layers, which method={recipe.method} would leave out; say method=latent-vdm, "
            f"or take them out first: latentshift init --base {recipe.model} --method {recipe.method} -o DIR"
        )
    if recipe.shift is not None and recipe.method is None and pipeline.method == "latent-vdm":
        raise ValueError(
            f"shift is of method latent-shift, and in {recipe.model} frames meet by latent-vdm; leave it out"
        )
    if recipe.method is not None:
        pipeline.set_method(recipe.method)
    elif pipeline.method == "none" and recipe.shift is None:
        raise ValueError(
            f"{recipe.model} was saved without anything that lets frames meet; say what is to be trained with "
            f"method={' or method='.join(METHODS)}"
        )
    if recipe.shift is not None:
        pipeline.set_shift(recipe.shift.to_dict())
    _settle_shape(recipe, pipeline)
    pipeline.scheduler = make_sampler("ddpm", pipeline.scheduler)  # others add noise in their own way
    if recipe.prediction_type is not None:
        pipeline.scheduler.register_to_config(prediction_type=recipe.prediction_type)
    pipeline.vae.requires_grad_(False)
    pipeline.sentences.requires_grad_(recipe.train_text_encoder)


def build_objective(recipe: DiffusionSettings, pipeline: LatentShiftPipeline, *, text_encoded: bool) -> DenoisingLoss:
    """What the model is trained on, with the recipe's way of calculating it; without text encoders where none work."""
    if recipe.compute.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    if recipe.compile:
        compile_for_training(pipeline.unet)
    return DenoisingLoss(
        pipeline.unet,
        None if text_encoded else pipeline.sentences,
        pipeline.scheduler,
        recipe.loss_weight,
        recipe.min_snr_gamma,
        pipeline.temporal,
        pipeline.vae_scale_factor,
    )


def lora_settings(recipe: VideoRecipe) -> Lora:
    """The adapter that a recipe asks for."""
    assert recipe.lora is not None
    return Lora(**recipe.lora.model_dump())


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


def _build_text_encoder(recipe: ImageRecipe, tokenizer: PreTrainedTokenizerBase) -> LDMBertModel:
    text = recipe.text
    encoder = LDMBertModel(
        LDMBertConfig(
            vocab_size=len(tokenizer),
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
