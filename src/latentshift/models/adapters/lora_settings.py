"""peft's settings of a LoRA (rank, alpha and a few more), from its file's metadata or ``adapter_config.json``.

Only the settings that say what the tensors do are kept, each of a checked type: peft imports modules and compiles
patterns that others of them name. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latentshift.user_input.bounded_read import load_json_settings, parse_json_bounded

PEFT_CONFIG = "adapter_config.json"
_DIFFUSERS_METADATA = "lora_adapter_metadata"  # of diffusers' own files: JSON of peft's settings
_MAX_RANK = 2**16


def read_lora_settings(
    style: str, parts: Iterable[str], metadata: Mapping[str, str], folder: Path | None, where: str
) -> dict[str, dict[str, Any]] | None:
    """The settings of each part that a LoRA changes.

    Args:
        style: how its tensors are named (:func:`latentshift.models.adapters.lora_file.style_of`).
        parts: of the pipeline that it has tensors for.
        metadata: of its safetensors file.
        folder: of the file; None for tensors in memory.
        where: the file, for messages.

    Returns:
        part -> peft's settings: ``r`` and ``lora_alpha``, and of ``rank_pattern``, ``alpha_pattern``, ``use_rslora``
        and ``lora_bias`` those that there are; None if the LoRA has no settings: alpha is then the rank.

    Raises:
        ValueError: if peft's file is missing, a setting is of another type, or the LoRA is of another method.
    """
    if style == "peft":
        if folder is None:
            raise ValueError(
                f"{where} has peft's names, and tensors by name do not say how strong it is (lora_alpha): "
                f"give the file, with {PEFT_CONFIG} beside it"
            )
        settings = read_peft_config(folder, where)
        return dict.fromkeys(parts, settings)
    if _DIFFUSERS_METADATA not in metadata:
        return None
    where = f"{where}: its metadata {_DIFFUSERS_METADATA}"
    values = parse_json_bounded(metadata[_DIFFUSERS_METADATA], where)
    if not isinstance(values, dict):
        raise ValueError(f"{where} must hold settings by name, not a {type(values).__name__}")
    if style == "bare":
        return {part: _check_settings(values, "", where) for part in parts}
    return {part: _check_settings(values, f"{part}.", where) for part in parts}


def read_peft_config(folder: Path, where: str) -> dict[str, Any]:
    """peft's settings of a LoRA, which are in a file beside its weights and say how strong it is.

    Raises:
        ValueError: if there is no such file, it has no rank or alpha, or is of another method than LoRA.
    """
    file = folder / PEFT_CONFIG
    if not file.is_file():
        raise ValueError(
            f"{where} has peft's names, and {PEFT_CONFIG}, which says how strong it is (lora_alpha), is not beside it"
        )
    values = load_json_settings(file)
    return _check_settings({"peft_type": None, **values}, "", str(file))


def _check_settings(values: Mapping[str, Any], prefix: str, where: str) -> dict[str, Any]:
    """The settings whose names begin with a prefix, without it; those that are not known are left out."""
    kind = values.get(f"{prefix}peft_type", "LORA")
    if kind != "LORA":
        raise ValueError(f"{where}: {prefix}peft_type is {kind!r}, and only LORA is supported")
    if values.get(f"{prefix}use_dora"):
        raise ValueError(f"{where}: {prefix}use_dora is set, and DoRA is not supported: only plain LoRA is")
    settings = {}
    for name, (is_right, must_be) in _SETTINGS.items():
        value = values.get(f"{prefix}{name}")
        if value is None and name not in ("r", "lora_alpha"):
            continue
        if not is_right(value):
            raise ValueError(f"{where}: {prefix}{name} must be {must_be}, not {repr(value)[:80]}")
        settings[name] = value
    return settings


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_RANK


def _is_alpha(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_SETTINGS = {
    "r": (_is_rank, f"a whole number from 1 to {_MAX_RANK}"),
    "lora_alpha": (_is_alpha, "a number above 0"),
    "rank_pattern": (
        lambda value: isinstance(value, dict) and all(map(_is_rank, value.values())),
        f"whole numbers from 1 to {_MAX_RANK} by layer",
    ),
    "alpha_pattern": (
        lambda value: isinstance(value, dict) and all(map(_is_alpha, value.values())),
        "numbers above 0 by layer",
    ),
    "use_rslora": (_is_bool, "true or false"),
    "lora_bias": (_is_bool, "true or false"),
}
