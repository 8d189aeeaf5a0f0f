"""The video models that are compared, each built at the width of one image model, with random weights.

All take the latents of B videos, a timestep and one text a video, and are called as their users call them.
Legend of shapes: B videos, F frames, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusers import UNet2DConditionModel, UNet3DConditionModel, UNetMotionModel
from torch import Tensor, nn

from latentshift.benchmarks.generation.settings import COMPILED, VIDEO_MODELS
from latentshift.benchmarks.naive_shift import install_naive_shift
from latentshift.diffusion.condition import TextCondition
from latentshift.models.denoiser import denoise, share_text, sizes_of_frames, wants_sizes
from latentshift.models.latent_vdm import TemporalAttention, attention_of, install_attention
from latentshift.shift import install

Predict = Callable[[nn.Module, Tensor, Tensor, TextCondition], Tensor]
"""(U-Net, latents (B, F, C, h, w), timestep (), texts of B videos) -> (B, F, C, h, w)."""

_MODELSCOPE_HEAD_WIDTH = 64


@dataclass(frozen=True)
class _Kind:
    build: Callable[[UNet2DConditionModel, int], nn.Module]
    predict: Predict


@dataclass(frozen=True)
class VideoModel:
    """One of them.

    Attributes:
        unet: with random weights; what is beside it (Latent-VDM's layers) hangs on it.
        predict: how it is called.
    """

    unet: nn.Module
    predict: Predict

    def __call__(self, latents: Tensor, timestep: Tensor, text: TextCondition) -> Tensor:
        """The prediction (B, F, C, h, w) for latents (B, F, C, h, w), a timestep () and the texts of B videos."""
        return self.predict(self.unet, latents, timestep, text)

    @property
    def num_parameters(self) -> int:
        """Of the U-Net with its temporal layers."""
        parts = (self.unet, attention_of(self.unet))
        return sum(value.numel() for part in parts if part is not None for value in part.parameters())


def build_video_model(name: str, image: UNet2DConditionModel, num_frames: int) -> VideoModel:
    """Build one on torch's current device, in its current default dtype; not compiled yet, if it is one that is.

    Args:
        name: of :data:`latentshift.benchmarks.generation.settings.VIDEO_MODELS`.
        image: the U-Net whose configuration it shares; may be on the meta device.
        num_frames: F.

    Raises:
        ValueError: if it can't have this configuration.
    """
    kind = _KINDS[COMPILED.get(name, name)]
    try:
        unet = kind.build(image, num_frames).eval()
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{VIDEO_MODELS[name]} can't be built like this image model: {reason}") from None
    return VideoModel(unet, kind.predict)


def _stock(image: UNet2DConditionModel, num_frames: int) -> nn.Module:
    return UNet2DConditionModel.from_config(image.config)


def _naive_shift(image: UNet2DConditionModel, num_frames: int) -> nn.Module:
    unet = _stock(image, num_frames)
    install_naive_shift(unet, num_frames)
    return unet


def _latent_shift(image: UNet2DConditionModel, num_frames: int) -> nn.Module:
    unet = _stock(image, num_frames)
    share_text(unet)
    return install(unet)


def _latent_vdm(image: UNet2DConditionModel, num_frames: int) -> nn.Module:
    unet = _stock(image, num_frames)
    share_text(unet)
    return install_attention(unet, TemporalAttention.for_unet(unet))


def _animatediff(image: UNet2DConditionModel, num_frames: int) -> nn.Module:
    """Guo et al. 2023: a motion module of two temporal attentions after each ResNet block, and in the middle.

    Of SDXL it is the U-Net of ``AnimateDiffSDXLPipeline``.
    """
    return UNetMotionModel.from_unet2d(image, load_weights=False)


def _modelscope(image: UNet2DConditionModel, num_frames: int) -> nn.Module:
    """Wang et al. 2023: temporal convolutions after each ResNet block, temporal attention after each spatial one.

    Its heads are 64 wide, as published, or as wide as all of this model's levels divide by.
    """
    config = image.config
    layers = config.transformer_layers_per_block
    if wants_sizes(image) or any(each != 1 for each in ([layers] if isinstance(layers, int) else layers)):
        raise ValueError("its transformers have one layer each, and it takes no pooled text and sizes, as SDXL's does")
    shared = math.gcd(*config.block_out_channels)
    head_width = next(width for width in range(_MODELSCOPE_HEAD_WIDTH, 0, -1) if shared % width == 0)
    return UNet3DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        down_block_types=tuple(name.replace("2D", "3D") for name in config.down_block_types),
        up_block_types=tuple(name.replace("2D", "3D") for name in config.up_block_types),
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=head_width,
    )


def _predict_frames(unet: nn.Module, latents: Tensor, timestep: Tensor, text: TextCondition) -> Tensor:
    """As a stock image pipeline with an image a frame: the text repeated for each."""
    batch, frames = latents.shape[:2]
    more = sizes_of_frames(unet, text, frames)
    tokens = text.tokens.repeat_interleave(frames, dim=0)
    predicted = unet(latents.flatten(0, 1), timestep, encoder_hidden_states=tokens, return_dict=False, **more)[0]
    return predicted.unflatten(0, (batch, frames))


def _predict_shared(unet: nn.Module, latents: Tensor, timestep: Tensor, text: TextCondition) -> Tensor:
    """As ``LatentShiftPipeline``: the text's keys and values once a video."""
    return denoise(unet, latents, timestep, text)


def _predict_motion(unet: nn.Module, latents: Tensor, timestep: Tensor, text: TextCondition) -> Tensor:
    """As ``AnimateDiffPipeline``: the text repeated for each frame, and SDXL's pooled text and sizes once a video."""
    tokens = text.tokens.repeat_interleave(latents.shape[1], dim=0)
    return _channels_first(unet, latents, timestep, tokens, **sizes_of_frames(unet, text, 1))


def _predict_3d(unet: nn.Module, latents: Tensor, timestep: Tensor, text: TextCondition) -> Tensor:
    """As ``TextToVideoSDPipeline``: the U-Net repeats the text itself."""
    return _channels_first(unet, latents, timestep, text.tokens)


def _channels_first(unet: nn.Module, latents: Tensor, timestep: Tensor, tokens: Tensor, **more: Any) -> Tensor:
    """Channels before frames."""
    predicted = unet(latents.transpose(1, 2), timestep, encoder_hidden_states=tokens, return_dict=False, **more)[0]
    return predicted.transpose(1, 2)


_KINDS = {
    "stock-2d": _Kind(_stock, _predict_frames),
    "naive-shift": _Kind(_naive_shift, _predict_frames),
    "latent-shift": _Kind(_latent_shift, _predict_shared),
    "latent-vdm": _Kind(_latent_vdm, _predict_shared),
    "animatediff": _Kind(_animatediff, _predict_motion),
    "modelscope": _Kind(_modelscope, _predict_3d),
}
