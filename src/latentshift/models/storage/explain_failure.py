"""Explain why a saved pipeline can't be loaded, naming the component, which the libraries' errors do not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open
from torch import nn

from latentshift.models.storage.meta_init import meta_part
from latentshift.models.storage.model_config import check_part_folders
from latentshift.models.storage.weight_files import weight_files
from latentshift.user_input.error_text import one_line


def explain_failure(folder: Path, parts: Iterable[str], variant: str | None) -> str | None:
    """Find the first component that can't be built from its configuration, or whose weights do not match it.

    Args:
        folder: of the pipeline.
        parts: subfolders of its components.
        variant: of the weight files.

    Returns:
        A sentence; None if no component is at fault.
    """
    index = DiffusionPipeline.load_config(folder, local_files_only=True)
    for name in parts:
        kind = (index.get(name) or (None, None))[1]
        if kind is None:
            continue
        try:
            check_part_folders(folder, [name])
        except ValueError as error:
            return str(error)
        try:
            part = meta_part(str(folder), name, kind)
        except Exception as error:  # whatever a configuration makes the libraries raise
            reason = f"{type(error).__name__}: {one_line(error)}" if isinstance(error, LookupError) else one_line(error)
            return f"{folder / name} can't be used as it is configured: {reason}"
        if isinstance(part, nn.Module) and (reason := _differing(part, folder / name, variant)):
            return reason
    return None


def _differing(part: Any, folder: Path, variant: str | None) -> str:
    shapes = {key: list(value.shape) for key, value in part.state_dict().items()}
    for file in weight_files(folder, variant):
        try:
            with safe_open(file, framework="pt") as tensors:
                stored = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            return f"{file} can't be read: {one_line(error)}"
        for key, shape in stored.items():
            described = shapes.get(key, shapes.get(key.removeprefix("text_model.")))
            if described is not None and described != shape:
                return (
                    f"{folder / 'config.json'} describes another model than the weights beside it: {key} has "
                    f"the shape {described} there, and {shape} in {file.name}"
                )
    return ""
