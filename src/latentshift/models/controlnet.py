"""ControlNets (Zhang et al. 2023) of a U-Net: new ones, and what they add in a call on videos.

A ControlNet is a copy of the U-Net's encoder that also sees a condition, a picture for each frame; what it finds is
added to the U-Net's own. Legend of shapes: B videos, F frames, C latent channels, h × w latent pixels, H × W pixels.
"""

from __future__ import annotations

from typing import Any

from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.frame_context import frame_context
from latentshift.models.denoiser import frame_timesteps, frame_tokens, share_text, sizes_of_frames

SHIFT_KEY = "_shift"
"""Where the configuration of a ControlNet in which frames meet has the shift's settings. diffusers keeps it."""
_CONDITION_CHANNELS = (16, 32, 96, 256)  # diffusers', for autoencoders 8 times smaller on each side


def new_controlnet(unet: UNet2DConditionModel, factor: int) -> ControlNetModel:
    """A ControlNet for a U-Net, with its weights, that changes nothing yet: what it adds goes through zeros.

    Args:
        unet: of the base; the shift may be installed on it, and is not on the ControlNet.
        factor: pixels of a condition to a latent pixel, on each side, a power of two: the autoencoder's.

    Raises:
        ValueError: for a U-Net that diffusers makes no ControlNet of.
    """
    layers = unet.config.layers_per_block
    if not isinstance(layers, int):
        raise ValueError(
            f"the base's U-Net has {', '.join(map(str, layers))} layers per block, and a ControlNet of diffusers has "
            "one number of layers for all levels: choose another base"
        )
    levels = factor.bit_length()  # the first convolution and one more for each halving
    widest = _CONDITION_CHANNELS[-1]
    channels = (*_CONDITION_CHANNELS, *(widest,) * max(0, levels - len(_CONDITION_CHANNELS)))[:levels]
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels)
    share_text(controlnet)
    return controlnet


def trained_shift(controlnet: nn.Module) -> dict[str, Any] | None:
    """The settings of the shift that a ControlNet was trained with; None: frame by frame, as others' are."""
    settings: dict[str, Any] | None = dict(getattr(controlnet, "config", {})).get(SHIFT_KEY)
    return settings


def control(
    controlnet: nn.Module, latents: Tensor, timesteps: Tensor, text: TextCondition, condition: Tensor
) -> dict[str, Any]:
    """What a ControlNet adds in a call of the U-Net, as arguments for it (``controls`` of :func:`denoise`).

    Args:
        controlnet: of the U-Net; frames are independent in it unless the shift is installed.
        latents: (B, F, C, h, w), scaled and noisy.
        timesteps: as for :func:`latentshift.models.denoiser.denoise`.
        text: one for each video.
        condition: (B, F, 3, H, W) in [0, 1].
    """
    batch, num_frames = latents.shape[:2]
    options: dict[str, Any] = {} if frame_context(controlnet) is None else {"num_frames": num_frames}
    down, middle = controlnet(
        latents.flatten(0, 1),
        frame_timesteps(timesteps, batch, num_frames),
        frame_tokens(controlnet, text, num_frames),
        condition.flatten(0, 1).to(latents),
        return_dict=False,
        **options,
        **sizes_of_frames(controlnet, text, num_frames),
    )
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
