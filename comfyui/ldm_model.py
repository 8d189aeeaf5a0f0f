"""Latent diffusion models of any size in ComfyUI, such as the bundled one.

ComfyUI knows U-Nets, autoencoders and text encoders by the sizes of Stable Diffusion. Here the settings of a saved
pipeline describe ComfyUI's own U-Net, which gets its weights; autoencoder and text encoder run in the latentshift
package, whose libraries (diffusers, transformers) have to be there.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .schedule import check_schedule

_BETA_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear"}  # diffusers' names -> ComfyUI's


def load_ldm(folder: Path) -> tuple[Any, Any, Any]:
    """MODEL without the shift, CLIP and VAE of a saved pipeline.

    Raises:
        ValueError: if the libraries are missing, or the pipeline can't be read.
    """
    try:
        from latentshift.pipeline import open_pipeline
    except ImportError as error:
        raise ValueError(
            f"the model in {folder} needs the latentshift package with all that it needs: run `python -m pip install "
            f"PATH_OF_THE_LATENTSHIFT_CHECKOUT` with ComfyUI's python ({error})"
        ) from None
    pipeline = open_pipeline(str(folder))
    return unet_model(pipeline.unet, pipeline.scheduler.config, pipeline.vae.config), _Clip(pipeline), _Vae(pipeline)


def unet_model(unet: nn.Module, schedule: Any, autoencoder: Any) -> Any:
    """A diffusers ``UNet2DConditionModel``'s weights in ComfyUI's own U-Net, as a MODEL without the shift.

    Args:
        unet: with cross-attention to text alone; it is not changed.
        schedule: configuration of its scheduler.
        autoencoder: configuration of its autoencoder.

    Raises:
        ValueError: for a layer that ComfyUI's U-Net does not have, or a schedule that it does not know.
    """
    check_schedule(schedule)
    import comfy.latent_formats
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models_base
    import comfy.utils

    types = comfy.model_base.ModelType
    predicts = {"epsilon": types.EPS, "v_prediction": types.V_PREDICTION}
    if schedule["prediction_type"] not in predicts or schedule["beta_schedule"] not in _BETA_SCHEDULES:
        raise ValueError(
            f"ComfyUI has no sampling for {schedule['prediction_type']!r} with the schedule "
            f"{schedule['beta_schedule']!r}; convert the model, or use latentshift generate"
        )
    settings = _unet_settings(unet.config)
    description = comfy.supported_models_base.BASE(settings)
    description.unet_config = settings  # without the defaults of BASE
    description.latent_format = comfy.latent_formats.LatentFormat()
    description.latent_format.scale_factor = autoencoder["scaling_factor"]
    description.latent_format.latent_channels = autoencoder["latent_channels"]
    description.sampling_settings = {
        "beta_schedule": _BETA_SCHEDULES[schedule["beta_schedule"]],
        "linear_start": schedule["beta_start"],
        "linear_end": schedule["beta_end"],
        "timesteps": schedule["num_train_timesteps"],
        "zsnr": schedule.get("rescale_betas_zero_snr", False),
    }
    load_device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(model_params=sum(p.numel() for p in unet.parameters()))
    description.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, load_device))
    model = comfy.model_base.BaseModel(description, predicts[schedule["prediction_type"]])

    names = comfy.utils.unet_to_diffusers(settings)
    weights = dict(unet.state_dict())
    if unknown := sorted(weights.keys() - names.keys()):
        raise ValueError(f"ComfyUI's U-Net has no layer {unknown[0]}")
    model.diffusion_model.load_state_dict({names[name]: value for name, value in weights.items()})
    for module in model.diffusion_model.modules():
        if isinstance(module, nn.GroupNorm):  # 32 groups are written into ComfyUI's source
            module.num_groups = unet.config.norm_num_groups
    model.eval().requires_grad_(False)
    offload_device = comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model.to(offload_device), load_device, offload_device)


def _unet_settings(config: Any) -> dict[str, Any]:
    """Arguments of ComfyUI's U-Net from those of diffusers'."""
    levels = list(config["down_block_types"])
    known = {"DownBlock2D": 0, "CrossAttnDownBlock2D": 1}
    mirrored = [each.replace("Up", "Down") for each in reversed(config["up_block_types"])]
    layers = config["layers_per_block"]
    if set(levels) - set(known) or mirrored != levels or not isinstance(layers, int):
        raise ValueError(f"ComfyUI's U-Net does not have the blocks {', '.join(levels)} of this model")
    for setting, value in {
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "class_embed_type": None,
        "addition_embed_type": None,
        "time_cond_proj_dim": None,
        "resnet_time_scale_shift": "default",
        "transformer_layers_per_block": 1,
        "norm_eps": 1e-5,
        "only_cross_attention": False,
        "act_fn": "silu",
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }.items():
        if config.get(setting, value) != value:
            raise ValueError(f"ComfyUI's U-Net can't have {setting} {config[setting]!r} of this model, only {value!r}")
    widths, heads = config["block_out_channels"], config["attention_head_dim"]  # the number of heads, by its old name
    if isinstance(heads, int):
        attention = {"num_heads": heads, "num_head_channels": -1}
    elif len(sizes := {width // number for width, number in zip(widths, heads, strict=True)}) == 1:
        attention = {"num_heads": -1, "num_head_channels": sizes.pop()}
    else:
        raise ValueError(f"ComfyUI's U-Net has heads of one number or one width, and this model has {heads!r}")
    depths = [known[each] for each in levels]
    return {
        "image_size": 32,  # not used
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [_Times(width, widths[0]) for width in widths],
        "num_res_blocks": [layers] * len(levels),
        "transformer_depth": [depth for depth in depths for _ in range(layers)],
        "transformer_depth_output": [depth for depth in depths for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": config["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "legacy": False,
        "use_checkpoint": False,
        "adm_in_channels": None,
        **attention,
    }


class _Times(Fraction):
    """How many times a level is as wide as the first one: its product is a whole number, as ComfyUI expects it."""

    def __mul__(self, other: Any) -> int:  # type: ignore[override]
        return int(Fraction(self) * other)

    __rmul__ = __mul__


class _Clip:
    """What ComfyUI's text nodes ask of a CLIP, from latentshift's text encoder."""

    def __init__(self, pipeline: Any) -> None:
        self._encoders = pipeline.text_encoders

    def tokenize(self, text: str, **_: Any) -> str:
        return text

    @torch.no_grad()
    def encode_from_tokens_scheduled(self, tokens: str, **_: Any) -> list[list[Any]]:
        condition = self._encoders.encode([tokens], torch.device("cpu"))
        return [[condition.tokens, {}]]


class _Vae:
    """What ComfyUI's VAE nodes ask of a VAE, from latentshift's autoencoder; pictures are (F, H, W, 3) in [0, 1]."""

    def __init__(self, pipeline: Any) -> None:
        self._autoencoder = pipeline.vae

    @torch.no_grad()
    def decode(self, samples: Tensor, **_: Any) -> Tensor:
        frames = self._autoencoder.decode(samples.float().cpu()).sample
        return (frames / 2 + 0.5).clamp(0, 1).movedim(1, -1).contiguous()

    @torch.no_grad()
    def encode(self, pixels: Tensor, **_: Any) -> Tensor:
        frames = pixels[..., :3].float().cpu().movedim(-1, 1) * 2 - 1
        return self._autoencoder.encode(frames).latent_dist.mean
