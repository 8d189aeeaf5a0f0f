"""The models that stages train, and their objectives, before anything is trained or read.

The same with real weights, for training, and with weights on torch's meta device, for sizing a run.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.adapters.video_adapter import Lora
from latentshift.models.autoencoder import build_autoencoder
from latentshift.models.controlnet import SHIFT_KEY, new_controlnet
from latentshift.models.denoiser import compile_for_training
from latentshift.models.storage.base_settings import check_trainable
from latentshift.pipeline import LatentShiftPipeline
from latentshift.settings import METHODS, STEPS, ShiftConfig, Weighting, check_training_size
from latentshift.shift import install
from latentshift.training.losses import DenoisingLoss
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipes.settings import AutoencoderModel, LoraSettings, UNetModel


def new_autoencoder(model: AutoencoderModel, size: int) -> AutoencoderKL:
    """Stage (a)'s model for frames of a size, with random weights."""
    return build_autoencoder(
        channels=model.channels,
        layers_per_block=model.layers_per_block,
        latent_channels=model.latent_channels,
        norm_groups=model.norm_groups,
        size=size,
    )


def new_image_model(
    unet: UNetModel,
    text_model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    prediction_type: str,
    autoencoder: AutoencoderKL,
    *,
    zero_terminal_snr: bool = False,
    train_text_encoder: bool = True,
    meta: bool = False,
) -> LatentShiftPipeline:
    """Stage (b)'s model.

    Args:
        unet: the shape of its U-Net, whose weights are random.
        text_model: its text encoder and tokenizer (:func:`latentshift.training.models.text_model.build_text_model`).
        prediction_type: what the U-Net learns to predict.
        autoencoder: of stage (a); it is frozen.
        zero_terminal_snr: whether its schedule ends in noise alone.
        train_text_encoder: whether the text encoder is trained along.
        meta: the U-Net lies on torch's meta device, without weights.
    """
    text_encoder, tokenizer = text_model
    autoencoder.requires_grad_(False)
    with torch.device("meta") if meta else nullcontext():
        new_unet = build_unet(unet, int(text_encoder.config.hidden_size), autoencoder)
    pipeline = LatentShiftPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=new_unet,
        scheduler=paper_scheduler(prediction_type, zero_terminal_snr=zero_terminal_snr),
        shift=None,  # else single frames would train the middle third of each block's channels alone
    )
    pipeline.text_encoders.requires_grad_(train_text_encoder)
    return pipeline


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
    if recipe.size is not None:
        set_frame_size(pipeline, recipe.size)
    video_settings = {"num_frames": recipe.num_frames, "fps": recipe.fps}
    pipeline.register_to_config(**{name: value for name, value in video_settings.items() if value is not None})
    recipe.check_curriculum_fits(pipeline.config.num_frames)
    pipeline.scheduler = make_sampler("ddpm", pipeline.scheduler)  # others add noise in their own way
    pipeline.register_to_config(num_inference_steps=STEPS)  # the base's are its own sampler's
    if recipe.prediction_type is not None:
        pipeline.scheduler.register_to_config(prediction_type=recipe.prediction_type)
    if recipe.noise_share is not None:
        pipeline.set_noise_share(recipe.noise_share)
    pipeline.vae.requires_grad_(False)
    pipeline.text_encoders.requires_grad_(recipe.train_text_encoder)


def prepare_controlnet(
    pipeline: LatentShiftPipeline, *, is_image_model: bool, num_frames: int | None, shifted: bool
) -> tuple[ControlNetModel, int]:
    """Freeze a base, in place, and make a ControlNet that is to be trained for it.

    Args:
        pipeline: of the base.
        is_image_model: whether it was saved as an image pipeline, whose frames are independent.
        num_frames: of a sample; None: the base's.
        shifted: whether frames meet in the ControlNet as in the U-Net.

    Returns:
        The ControlNet, and the frames of a sample.

    Raises:
        ValueError: for a base that can't have one, or whose frames do not meet where they are to.
    """
    check_trainable(pipeline.components)
    if pipeline.temporal is not None:
        raise ValueError("the base has Latent-VDM's temporal layers, which pipelines with a ControlNet do not load")
    if is_image_model:
        pipeline.set_shift(None)  # else most of what its blocks read of a single frame would be zeros
    if pipeline.config.shift is None and num_frames != 1:
        raise ValueError(
            "frames do not meet in the base: set num_frames=1, or make a video model of it first (latentshift init)"
        )
    controlnet = new_controlnet(pipeline.unet, pipeline.vae_scale_factor)
    if shifted:
        install(controlnet, ShiftConfig.from_dict(pipeline.config.shift))
        controlnet.register_to_config(**{SHIFT_KEY: dict(pipeline.config.shift)})
    with torch.device("cpu"):  # its schedule has values, also where weights are made without any
        pipeline.scheduler = make_sampler("ddpm", pipeline.scheduler)  # others add noise in their own way
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoders):
        part.requires_grad_(False)
    return controlnet, num_frames or pipeline.config.num_frames


def build_objective(
    pipeline: LatentShiftPipeline,
    *,
    text_encoded: bool,
    loss_weight: Weighting = "uniform",
    min_snr_gamma: float = 5.0,
    sigma_data: float = 1.0,
    gradient_checkpointing: bool = False,
    compiled: bool = False,
    controlnet: ControlNetModel | None = None,
) -> DenoisingLoss:
    """The loss of a pipeline's U-Net, or of its ControlNet.

    Args:
        pipeline: of the model that is trained.
        text_encoded: whether every batch brings its text encoded; the objective has no text encoders then.
        loss_weight: of a timestep.
        min_snr_gamma: where ``loss_weight`` is ``min_snr``: its γ.
        sigma_data: where ``loss_weight`` is ``edm``: the spread of the clean latents.
        gradient_checkpointing: whether the U-Net's activations are recomputed in the backward pass.
        compiled: whether the U-Net is compiled.
        controlnet: that is trained in place of the U-Net.
    """
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        if controlnet is not None:
            controlnet.enable_gradient_checkpointing()
    if compiled:
        compile_for_training(pipeline.unet)
    return DenoisingLoss(
        pipeline.unet,
        None if text_encoded else pipeline.text_encoders,
        pipeline.scheduler,
        loss_weight,
        min_snr_gamma,
        sigma_data,
        pipeline.temporal,
        pipeline.vae_scale_factor,
        pipeline.config.noise_share,
        controlnet,
    )


def lora_of(settings: LoraSettings) -> Lora:
    """The adapter with a recipe's settings."""
    return Lora(**settings.model_dump())


def set_frame_size(pipeline: LatentShiftPipeline, size: int) -> None:
    """Let a pipeline make frames of a size in pixels from now on.

    Raises:
        ValueError: if the model does not support it.
    """
    scale = pipeline.vae_scale_factor
    check_training_size(size, scale, len(pipeline.unet.config.block_out_channels))
    pipeline.unet.register_to_config(sample_size=size // scale)


def build_unet(model: UNetModel, text_width: int, autoencoder: AutoencoderKL) -> UNet2DConditionModel:
    """A new image U-Net for an autoencoder's latents, with random weights from torch's generator.

    Args:
        model: the recipe's sizes of it.
        text_width: D of the text embeddings that it attends to.
        autoencoder: whose latents (C, h, w) it takes and predicts.
    """
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in model.attention]
    return UNet2DConditionModel(
        sample_size=autoencoder.config.sample_size // 2 ** (len(autoencoder.config.block_out_channels) - 1),
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        block_out_channels=model.channels,
        layers_per_block=model.layers_per_block,
        attention_head_dim=model.heads,
        cross_attention_dim=text_width,
        norm_num_groups=model.norm_groups,
        down_block_types=down,
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(down)],
    )
