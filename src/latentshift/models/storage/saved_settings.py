"""Settings of a latentshift pipeline that image pipelines of the same parts do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from latentshift.frame_context import uncompiled
from latentshift.user_input.bounded_read import load_json_settings


def saved_setting(pipe: Any, name: str, default: Any) -> Any:
    """A setting of a latentshift pipeline, or of the one that an image pipeline's parts come from.

    ``from_pipe`` keeps it in the configuration, with an underscore; ``from_pretrained`` of an image pipeline's class
    drops it, and it is then read from the folder: of the U-Net, which may be another model's than the pipeline, and
    which alone has the revision and cache in its path.

    Args:
        pipe: any pipeline of diffusers.
        name: of the setting.
        default: where no latentshift pipeline is known.

    Raises:
        ValueError: if that folder's ``model_index.json`` can't be read.
    """
    config = dict(pipe.config)
    for key in (name, f"_{name}"):
        if key in config:
            return config[key]
    unet: Any = getattr(pipe, "unet", None)
    of_unet: Any = {} if unet is None else uncompiled(unet).config
    index = _model_index(of_unet.get("_name_or_path")) or _model_index(config.get("_name_or_path"))
    return default if index is None else load_json_settings(index).get(name, default)


def _model_index(source: str | Path | None) -> Path | None:
    """The ``model_index.json`` of what was loaded from a folder of a pipeline or of its part, or by a hub id."""
    if not source:
        return None
    folder = Path(source)
    if folder.is_dir():
        for path in (folder / "model_index.json", folder.parent / "model_index.json"):
            if path.is_file():
                return path
        return None
    try:
        cached = try_to_load_from_cache(str(source), "model_index.json")
    except HFValidationError:  # no hub id either
        return None
    return Path(cached) if isinstance(cached, str) else None
