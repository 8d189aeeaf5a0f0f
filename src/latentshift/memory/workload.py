"""A recipe's model without its weights, and the work of a run: training steps, encoding, samples.

Only configurations are read; the model lies on torch's meta device.
Legend of shapes: F frames, C latent channels, L tokens, D width of the text encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.models.adapters.video_adapter import add_lora
from latentshift.models.autoencoder import decode_latents, encode_moments
from latentshift.models.controlnet import control
from latentshift.models.denoiser import default_frame_chunk, denoise
from latentshift.models.storage.meta_init import meta_components
from latentshift.models.storage.model_paths import autoencoder_folder, resolve_model
from latentshift.models.storage.saved_pipeline import find_family
from latentshift.pipeline import LatentShiftPipeline
from latentshift.settings import ShiftConfig
from latentshift.training.data.datasets import has_encoded_text
from latentshift.training.losses import AutoencoderLoss, FrameBatch, LatentBatch
from latentshift.training.models.build import (
    build_objective,
    lora_of,
    new_autoencoder,
    new_image_model,
    prepare_controlnet,
    prepare_video_model,
)
from latentshift.training.models.text_model import build_text_model
from latentshift.training.monitoring.previews import PREVIEW_FRAMES
from latentshift.training.recipe import AnyRecipe, ControlNetRecipe, ImageRecipe, VideoRecipe

Work = Callable[[], Any]
_SIZES = (0.0,) * 6  # SDXL's sizes: their values do not matter here


@dataclass(frozen=True)
class Part:
    """One part of the model.

    Attributes:
        name: ``unet``, ``controlnet``, ``temporal``, ``text_encoder`` or ``autoencoder``.
        parameters: number of parameters, adapter included.
        trained: number of trained parameters.
        at_work: whether training uses it; otherwise it is only loaded for samples.
    """

    name: str
    parameters: int
    trained: int
    at_work: bool


@dataclass(frozen=True)
class Workload:
    """The work of a run on weights and data without values; to be called under fake tensors.

    Attributes:
        parts: of the model.
        objective: the trained module, on torch's meta device.
        steps: the kinds of batches, each with its share of the steps.
        encoding: calls that encode clips between two steps.
        sampling: calls that generate samples, in order, in float32.
        modules: all modules used.
        video: the settings of the video model, those that are the base's too; empty where there is no base.
    """

    parts: tuple[Part, ...]
    objective: nn.Module
    steps: Sequence[tuple[float, Callable[[], FrameBatch | LatentBatch]]]
    encoding: Sequence[Work]
    sampling: Sequence[Work]
    modules: Sequence[nn.Module]
    video: Mapping[str, object] = field(default_factory=dict)


def workload_of(recipe: AnyRecipe, count: int) -> Workload:
    """The work of a run with micro-batches of ``count`` samples.

    Raises:
        ValueError: if the configuration of its base can't be read, or is not a valid base.
    """
    if recipe.stage == "autoencoder":
        with torch.device("meta"):
            autoencoder = new_autoencoder(recipe.model, recipe.data.size)
        autoencoder_loss = AutoencoderLoss(autoencoder, recipe.kl_weight, recipe.edge_weight, recipe.mse_weight)
        return _of_autoencoder(autoencoder_loss, recipe.data.size, recipe.latent_shape, count)
    pipeline = _meta_pipeline(recipe)
    controlnet, num_frames = None, 1 if recipe.unit == "images" else pipeline.config.num_frames
    if recipe.stage == "controlnet":
        with torch.device("meta"):
            controlnet, num_frames = prepare_controlnet(
                pipeline,
                is_image_model=find_family(resolve_model(recipe.model)) is not None,
                num_frames=recipe.num_frames,
                shifted=recipe.shift_controlnet,
            )
    if recipe.adapter is not None:
        add_lora(pipeline.unet, lora_of(recipe.adapter))
    text_encoded = has_encoded_text(recipe.all_data) and not pipeline.text_encoders.is_trained
    objective = build_objective(
        pipeline,
        text_encoded=text_encoded,
        loss_weight=recipe.loss_weight,
        min_snr_gamma=recipe.min_snr_gamma,
        sigma_data=recipe.sigma_data,
        gradient_checkpointing=recipe.compute.gradient_checkpointing,
        controlnet=controlnet,
    )
    work = _of_denoiser(
        pipeline,
        objective,
        controlnet,
        num_frames=num_frames,
        count=count,
        text_encoded=text_encoded,
        footage=recipe.decodes_at_each_step,
        guidance_scale=pipeline.config.guidance_scale if recipe.guidance_scale is None else recipe.guidance_scale,
        images=recipe.share_of_images,
        few_frames={frames: steps / recipe.steps for frames, steps in recipe.steps_on_few_frames.items()},
    )
    return work if recipe.base_model is None else replace(work, video=_video_settings(pipeline, num_frames))


def _video_settings(pipeline: LatentShiftPipeline, num_frames: int) -> dict[str, object]:
    shift = pipeline.config.shift
    return {
        "method": pipeline.method,
        **({} if shift is None else {"shift": asdict(ShiftConfig.from_dict(shift))}),
        "noise_share": pipeline.config.noise_share,
        "prediction_type": pipeline.scheduler.config.prediction_type,
        "num_frames": num_frames,
        "size": pipeline.sample_size,
    }


def _of_autoencoder(objective: AutoencoderLoss, side: int, latent_shape: tuple[int, int, int], count: int) -> Workload:
    autoencoder = objective.autoencoder

    def batch() -> FrameBatch:
        return FrameBatch(torch.empty(count, 3, side, side), torch.empty(count, *latent_shape))

    def restore() -> None:
        frames = torch.empty(PREVIEW_FRAMES, 3, side, side)
        autoencoder.decode(autoencoder.encode(frames).latent_dist.mean)

    return Workload((_part("autoencoder", autoencoder),), objective, [(1.0, batch)], (), (restore,), (objective,))


def _of_denoiser(
    pipeline: LatentShiftPipeline,
    objective: nn.Module,
    controlnet: ControlNetModel | None,
    *,
    num_frames: int,
    count: int,
    text_encoded: bool,
    footage: bool,
    guidance_scale: float,
    images: float,
    few_frames: Mapping[int, float],
) -> Workload:
    """The work of a pipeline's U-Net or ControlNet.

    ``images`` is the share of the steps that learn single frames, ``few_frames`` that of the steps on so many frames.
    """
    unet, vae, text_encoders = pipeline.unet, pipeline.vae, pipeline.text_encoders
    parts = [_part("unet", unet)]
    if controlnet is not None:
        parts.append(_part("controlnet", controlnet))
    if pipeline.temporal is not None:
        parts.append(_part("temporal", pipeline.temporal))
    parts.append(_part("text_encoder", text_encoders, at_work=not text_encoded))
    parts.append(_part("autoencoder", vae, at_work=footage))
    side, channels = unet.config.sample_size, unet.config.in_channels
    ids = (len(text_encoders.encoders), text_encoders.length)
    encoded = text_encoders(torch.zeros(1, *ids, dtype=torch.long, device="meta"))

    def text(samples: int) -> TextCondition:
        pooled = None if encoded.pooled is None else torch.empty(samples, *encoded.pooled.shape[1:])
        return TextCondition(torch.empty(samples, *encoded.tokens.shape[1:]), pooled)

    def batch(samples: int, frames: int) -> LatentBatch:
        latents = torch.empty(samples, frames, channels, side, side)
        return LatentBatch(
            latents=latents,
            noise=torch.empty_like(latents),
            timesteps=torch.zeros(samples, dtype=torch.long),
            token_ids=torch.zeros(samples, *ids, dtype=torch.long),
            text=text(samples) if text_encoded else None,
            condition=None if controlnet is None else pictures(samples, frames),
        )

    def pictures(samples: int, frames: int) -> Tensor:
        return torch.empty(samples, frames, 3, pipeline.sample_size, pipeline.sample_size)

    def predict() -> None:
        both = 1 if guidance_scale == 1.0 else 2  # with guidance, also the empty sentence
        latents = torch.empty(both, num_frames, channels, side, side)
        condition, steps = text(both).with_sizes(_SIZES), torch.zeros(both)
        if controlnet is None:
            denoise(unet, latents, steps, condition, guidance_scale, default_frame_chunk(unet, num_frames, side**2))
            return
        controls = control(controlnet, latents, steps, condition, pictures(both, num_frames))
        denoise(unet, latents, steps, condition, guidance_scale, controls=controls)

    def encode() -> None:
        encode_moments(_as_shapes(vae), torch.empty(num_frames, 3, pipeline.sample_size, pipeline.sample_size))

    def decode() -> None:
        decode_latents(_as_shapes(vae), torch.empty(num_frames, channels, side, side), chunk_size=1)

    whole = 1 - sum(few_frames.values())
    steps = [((1 - images) * whole, partial(batch, count, num_frames))]
    for frames, share in few_frames.items():
        steps.append(((1 - images) * share, partial(batch, count * (num_frames // frames), frames)))
    if images:  # single frames, each with its own text
        steps.append((images, partial(batch, count * num_frames, 1)))
    return Workload(tuple(parts), objective, steps, (encode,) if footage else (), (predict, decode), (objective, vae))


def _meta_pipeline(recipe: ImageRecipe | VideoRecipe | ControlNetRecipe) -> LatentShiftPipeline:
    try:
        if recipe.stage != "image":
            pipeline = LatentShiftPipeline(**meta_components(resolve_model(recipe.model)))
            if recipe.stage == "video":
                prepare_video_model(recipe, pipeline)
            return pipeline
        config = AutoencoderKL.load_config(autoencoder_folder(recipe.autoencoder))
    except OSError as error:
        raise ValueError(
            f"the configuration of {recipe.bases[0]} can't be read: {str(error).splitlines()[0]}"
        ) from None
    with torch.device("meta"):
        autoencoder = AutoencoderKL.from_config(config)
    text_model = build_text_model(recipe.text, recipe.tokenizer, recipe.text_encoder, recipe.data, meta=True)
    return new_image_model(
        recipe.unet,
        text_model,
        recipe.prediction_type or "epsilon",
        autoencoder,
        zero_terminal_snr=recipe.zero_terminal_snr,
        train_text_encoder=recipe.train_text_encoder,
        meta=True,
    )


def _part(name: str, module: nn.Module, *, at_work: bool = True) -> Part:
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return Part(name, sum(count for count, _ in counts), sum(count for count, trained in counts if trained), at_work)


def _as_shapes(autoencoder: AutoencoderKL) -> AutoencoderKL:
    """Move an autoencoder off the meta device, as fake tensors."""
    return autoencoder.to_empty(device="cpu") if autoencoder.device.type == "meta" else autoencoder
