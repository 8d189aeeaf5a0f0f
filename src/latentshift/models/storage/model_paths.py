"""Resolve model names: the bundled model, a folder, a run's folder, or a hub id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentshift.files import missing_file
from latentshift.models.storage.original_layout import why_no_original
from latentshift.models.storage.other_models import foreign_pipeline
from latentshift.models.storage.safetensors_header import open_safetensors
from latentshift.settings import PIPELINES, check_frame_size, check_steps, check_training_size, method_name
from latentshift.user_input.bounded_read import load_json_settings

BUNDLED = "bundled"
DATA_SETTINGS = "data_settings.json"  # of a folder that training made: the settings of its data
EXPORT_INDEX = "export.json"  # of a folder that latentshift export wrote
_INDEX = "model_index.json"
_MAX_INDEX = 2**22  # bytes


def bundled_model() -> Path:
    """The folder of the bundled sprites model, a saved ``LatentShiftPipeline``."""
    return Path(__file__).parents[2] / "bundled_model"


def resolve_model(name: str) -> str:
    """Resolve a user's model name to a folder or hub id.

    Args:
        name: ``"bundled"``, a pipeline's folder, a run's folder (its ``model/`` is meant), or a hub id.

    Raises:
        ValueError: if it is none of these, or a run without a model.
    """
    if name == BUNDLED:
        return str(bundled_model())
    if (Path(name) / "model").is_dir() and not (Path(name) / _INDEX).exists():
        return str(Path(name) / "model")
    if Path(name).is_file():
        if name.endswith(".json"):
            raise ValueError(f"{name} is a file, and a model is a folder: name the one with its {_INDEX}")
        if name.endswith(".safetensors"):
            with open_safetensors(Path(name)) as file:
                reason = why_no_original(file.keys())
            if reason is not None:
                raise ValueError(f"{name}: {reason}")
        raise ValueError(f"{name} is a file, and a model is a folder: latentshift convert {name} -o DIR converts it")
    if (Path(name) / "recipe.yaml").is_file() and not (Path(name) / _INDEX).exists():
        for kind in ("lora", "delta"):
            if (adapter := Path(name) / f"{kind}.safetensors").exists():
                raise ValueError(
                    f"{name} is a run that made no model: name its base, and generate with --{kind} {adapter}"
                )
        if (Path(name) / "controlnet").exists():
            raise ValueError(
                f"{name} is a run that made a ControlNet, and no model: {name}/controlnet is for its base, in "
                "diffusers' pipelines (docs/pipelines.md)"
            )
        raise ValueError(f"{name} is a run without a model yet: run it to its end")
    if Path(name).exists() and not Path(name).is_dir():
        raise ValueError(f"{name} is a pipe or device, and a model is a folder")
    if not Path(name).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ValueError(f"there is no folder {name}, and it is not a hub id (owner/name) either")
    return name


def is_run_without_model(name: str) -> bool:
    """Whether this is the folder of a training run that has made nothing yet, and has checkpoints."""
    run = Path(name)
    if not (run / "recipe.yaml").is_file() or not any((run / "checkpoints").glob("step-*")):
        return False
    made = (_INDEX, "model", "controlnet", "lora.safetensors", "delta.safetensors")
    return not any((run / each).exists() for each in made)


def check_model(name: str) -> Path | None:
    """Refuse a model that can't be loaded, as far as possible without loading it.

    Args:
        name: as for :func:`resolve_model`.

    Returns:
        Its folder; None for a hub id.

    Raises:
        ValueError: as :func:`resolve_model`; and for a folder without a pipeline, or with one of another kind.
    """
    path = resolve_model(name)
    if not Path(path).is_dir():
        return None
    index = load_index(Path(path))
    if index["_class_name"] not in PIPELINES:
        raise ValueError(foreign_pipeline(path, index))
    return Path(path)


def class_name(index: Mapping[str, Any]) -> Any:
    """The class of a saved pipeline, also where it is one of the folder's own code, ``["pipeline", class]``."""
    name = index.get("_class_name")
    return name[1] if isinstance(name, (list, tuple)) and len(name) == 2 else name


def load_index(folder: Path) -> dict[str, Any]:
    """The ``model_index.json`` of a saved pipeline: its class, parts and settings.

    Raises:
        ValueError: if that is missing, is a folder, pipe or device, can't be read, or names no class.
    """
    file, nothing = folder / _INDEX, f"{folder} holds no diffusers pipeline"
    if not file.exists() and (folder / EXPORT_INDEX).is_file():
        raise ValueError(f"{nothing}: it is an export, which latentshift generate --model {folder} runs with --runtime")
    if not file.exists():
        raise ValueError(f"{nothing}: it has no {_INDEX}")
    if not file.is_file():
        raise ValueError(f"{nothing}: {missing_file(file)}")
    try:
        index = load_json_settings(file, _MAX_INDEX)
    except ValueError as error:
        raise ValueError(f"{nothing} that can be read: its {_INDEX} is damaged: {error}") from None
    index["_class_name"] = class_name(index)
    if not isinstance(index["_class_name"], str):
        raise ValueError(f"{nothing} that can be read: its {_INDEX} names no class (_class_name)")
    return index


def saved_method(folder: Path) -> str:
    """The temporal method of a saved pipeline, as :attr:`latentshift.LatentShiftPipeline.method`.

    Args:
        folder: from :func:`check_model`.
    """
    index = _config(folder, _INDEX)
    if class_name(index) != PIPELINES[0]:
        return "none"
    return method_name(shift=index.get("shift") is not None, attention=has_temporal_attention(folder))


def check_steps_and_size(
    folder: Path, steps: int | None, height: int | None, width: int | None, spacing: str | None = None
) -> None:
    """Refuse steps and sizes that a model does not support, according to its configuration.

    Args:
        folder: from :func:`check_model`.
        steps: of a sampler; None: the model's, which are not checked here.
        height: of the frames in pixels; None: the model's.
        width: likewise.
        spacing: of the sampler's timesteps; None: the sampler is the model's own.

    Raises:
        ValueError: with the valid values.
    """
    schedule = read_schedule(folder)
    total = schedule.get("num_train_timesteps")
    if steps is not None and type(total) is int:
        other = {"num_train_timesteps": total, "timestep_spacing": spacing}
        check_steps(steps, schedule if spacing is None else other, "--steps")
    sizes = _read_sizes(folder)
    if sizes is not None:
        scale, levels, side = sizes
        height, width = (side if each is None else each for each in (height, width))
        check_frame_size(height, width, scale, levels, "--size")


def read_schedule(folder: Path) -> dict[str, Any]:
    """The configuration of the scheduler in the folder of a model or an export; empty if it can't be read."""
    return _config(folder, "scheduler/scheduler_config.json")


def check_size_to_train(folder: Path, size: int, name: str = "size") -> None:
    """Refuse a size of frames that a model can't be trained with, according to its configuration.

    Args:
        folder: from :func:`check_model`.
        size: side of the frames in pixels.
        name: of the setting, for the message.

    Raises:
        ValueError: with the valid values.
    """
    sizes = _read_sizes(folder)
    if sizes is not None:
        scale, levels, _ = sizes
        check_training_size(size, scale, levels, name)


def read_video_size(folder: Path) -> tuple[int | None, int | None]:
    """The number of frames of a model's videos and their side in pixels; None where its configuration has none."""
    frames = _config(folder, _INDEX).get("num_frames")
    sizes = _read_sizes(folder)
    return (frames if type(frames) is int else None), (None if sizes is None else sizes[2])


def read_frame_rate(folder: Path) -> float | None:
    """Frames a second that a model was trained at; None where its configuration has none."""
    fps = _config(folder, _INDEX).get("fps")
    return float(fps) if isinstance(fps, (int, float)) and fps > 0 else None


def read_saved_shift(folder: Path) -> dict[str, Any] | None:
    """The settings of the shift that a latentshift model was saved with; None: it has none, or is an image model."""
    shift = _config(folder, _INDEX).get("shift")
    return shift if isinstance(shift, dict) else None


def has_temporal_attention(folder: Path) -> bool:
    """Whether a model's folder is of Latent-VDM, whose frames see one another all at once."""
    part = _config(folder, _INDEX).get("temporal")
    return isinstance(part, list) and any(part)


def _read_sizes(folder: Path) -> tuple[int, int, int] | None:
    """The autoencoder's downsampling factor, the U-Net's levels and the frames' side; None if they can't be read."""
    vae = _config(folder, "vae/config.json") or _config(folder, "vqvae/config.json")
    unet = _config(folder, "unet/config.json")
    vae_channels, unet_channels = vae.get("block_out_channels"), unet.get("block_out_channels")
    latent_side = unet.get("sample_size")
    if not isinstance(vae_channels, list) or not isinstance(unet_channels, list) or type(latent_side) is not int:
        return None
    scale = 2 ** (len(vae_channels) - 1)
    return scale, len(unet_channels), latent_side * scale


def _config(folder: Path, name: str) -> dict[str, Any]:
    """A configuration in a model's folder; empty if it can't be read, which is reported when the model is loaded."""
    try:
        return load_json_settings(folder / name)
    except ValueError:
        return {}


def autoencoder_folder(run: Path) -> Path:
    """The folder of the autoencoder in a run of stage (a).

    Raises:
        ValueError: if there is none.
    """
    folder = run / "model"
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: train stage (a) first, or set `autoencoder` to its run")
    return folder
