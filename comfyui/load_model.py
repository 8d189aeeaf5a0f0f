"""Saved latentshift pipelines as MODEL, CLIP and VAE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latentshift.models.storage.model_config import check_config_files
from latentshift.models.storage.model_paths import BUNDLED, bundled_model, load_index
from latentshift.models.storage.other_models import foreign_pipeline
from latentshift.settings import PIPELINES, ShiftConfig
from latentshift.user_input.bounded_read import load_json_settings

from .noise_patch import share_noise
from .prediction import set_prediction
from .schedule import check_schedule
from .shift_patch import apply_temporal_shift

# Stable Diffusion's and SDXL's schedule, which ComfyUI gives every U-Net of theirs.
_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}

_SCALING = 0.18215  # diffusers' scaling_factor of an autoencoder that does not name its own


def model_names() -> list[str]:
    """The bundled model, and the latentshift pipelines in ComfyUI's folders for diffusers models."""
    return [BUNDLED, *sorted({name for name, folder in _pipelines() if _class_of(folder) == PIPELINES[0]})]


def load_model(name: str) -> tuple[Any, Any, Any]:
    """MODEL with the shift it was trained with, CLIP and VAE.

    Args:
        name: one of :func:`model_names`.

    Raises:
        ValueError: if it can't be loaded; the message says why.
    """
    folder = _folder(name)
    check_config_files(folder)
    index = load_index(folder)
    if (index.get("temporal") or [None, None])[1] is not None:
        raise ValueError(f"{folder} has the temporal layers of Latent-VDM, which these nodes do not know")
    if index.get("shift", {}) is None:
        raise ValueError(f"{folder} was made without the temporal shift: load it as an image model")
    if (index.get("text_encoder") or [None, None])[1] == "CLIPTextModel":
        model, clip, vae = _load_stable_diffusion(folder)
    else:
        from .ldm_model import load_ldm

        model, clip, vae = load_ldm(folder)
    apply_temporal_shift(model, ShiftConfig.from_dict(index.get("shift", {})))
    share_noise(model, index.get("noise_share", 0.0))
    return model, clip, vae


def _load_stable_diffusion(folder: Path) -> tuple[Any, Any, Any]:
    """By ComfyUI's own loaders, with the schedule that the folder names."""
    import comfy.sd
    import folder_paths

    schedule = load_json_settings(folder / "scheduler" / "scheduler_config.json")
    check_schedule(schedule)
    for setting, value in _SCHEDULE.items():
        if schedule.get(setting) != value:
            raise ValueError(
                f"{folder}: ComfyUI has {setting} {value} for its U-Nets, and this model {schedule.get(setting)}"
            )
    model = comfy.sd.load_diffusion_model_state_dict(_weights(folder / "unet", "diffusion_pytorch_model"))
    if model is None:
        raise ValueError(f"{folder / 'unet'} is no U-Net of a size that ComfyUI knows: SD 1.x, SD 2.x or SDXL")
    autoencoder, its_own = load_json_settings(folder / "vae" / "config.json"), model.model.latent_format
    scaling = autoencoder.get("scaling_factor", _SCALING)
    if scaling != its_own.scale_factor:
        raise ValueError(
            f"{folder}: ComfyUI scales latents of this U-Net by {its_own.scale_factor}, and this model by {scaling}"
        )
    zero_snr = schedule.get("rescale_betas_zero_snr", False)
    set_prediction(model, schedule.get("prediction_type", "epsilon"), zero_snr)
    parts = [part for part in ("text_encoder", "text_encoder_2") if (folder / part).is_dir()]
    clip = comfy.sd.load_text_encoder_state_dicts(
        [_as_clip(_weights(folder / part, "model")) for part in parts],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
    )
    return model, clip, comfy.sd.VAE(sd=_weights(folder / "vae", "diffusion_pytorch_model"))


def _weights(folder: Path, name: str) -> dict[str, Any]:
    import comfy.utils

    found = [file for file in (folder / f"{name}.safetensors", folder / f"{name}.fp16.safetensors") if file.is_file()]
    if not found:
        raise ValueError(f"there is no file {folder / name}.safetensors; sharded weights have to be saved as one file")
    return comfy.utils.load_torch_file(str(found[0]), safe_load=True)


def _as_clip(weights: dict[str, Any]) -> dict[str, Any]:
    """With the prefix that ComfyUI knows a CLIP by, which transformers 5 leaves out when it saves one."""
    prefix = "text_model."
    if any(name.startswith(prefix) for name in weights):
        return weights
    return {f"{prefix}{name}": value for name, value in weights.items()}


def _folder(name: str) -> Path:
    if name == BUNDLED:
        return bundled_model()
    # ComfyUI passes on what was asked for, in its list or not.
    folder = next((folder for found, folder in _pipelines() if found == name), None)
    if folder is None:
        raise ValueError(f"there is no latentshift model {name} in ComfyUI's folders for diffusers models")
    kind = _class_of(folder)
    if kind is not None and kind not in PIPELINES:
        raise ValueError(foreign_pipeline(str(folder), load_index(folder)))
    if kind not in (None, PIPELINES[0]):
        raise ValueError(
            f"{folder} holds a {kind}, and no latentshift model: `latentshift init --base {folder} -o DIR` makes one "
            "of it, to be trained"
        )
    return folder


def _pipelines() -> Iterator[tuple[str, Path]]:
    """Names and folders of the pipelines in ComfyUI's folders for diffusers models."""
    import folder_paths

    for root in folder_paths.get_folder_paths("diffusers"):
        for folder, _, files in os.walk(root, followlinks=True):
            if "model_index.json" in files:
                yield os.path.relpath(folder, root), Path(folder)


def _class_of(folder: Path) -> str | None:
    try:
        return str(load_index(folder)["_class_name"])
    except ValueError:  # damaged, or a pipe: not in the list
        return None
