"""Check the configuration files of a saved model, which are read with size limits, and the metadata of adapter files.

This comes before any library reads them, so that a wrong value ends in a sentence with its file and name, and nothing
is allocated for it. Imports neither torch nor diffusers. The allowed values are in
:mod:`latentshift.models.storage.config_schema`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latentshift.files import missing_file
from latentshift.models.storage.config_schema import (
    ADAPTER,
    ADAPTER_SETTINGS,
    BERT,
    LORA,
    PARTS,
    PIPELINE,
    SHIFT,
    TEMPORAL,
    TEXT_ENCODER,
    Constraint,
)
from latentshift.models.storage.model_paths import class_name
from latentshift.models.storage.safetensors_header import open_safetensors
from latentshift.user_input.bounded_read import load_json_settings, parse_json_bounded

_MAX_BYTES = 2**22  # of a configuration; the largest have one noise level for each of 100,000 timesteps
_INDEX = "model_index.json"
ADAPTER_KEY = "latentshift"  # of the metadata in the header of a LoRA or delta file
_NOT_USED = ("safety_checker", "feature_extractor", "image_encoder")  # parts of image pipelines


def check_config_files(folder: Path) -> None:
    """Refuse a saved pipeline with an invalid configuration file, or with a pipe or device in a file's place.

    Missing files are not an error here.

    Args:
        folder: of the pipeline.

    Raises:
        ValueError: naming the file, and for a wrong value the setting, the value and what it must be.
    """
    if not (folder / _INDEX).is_file():
        return
    for file in (*folder.glob("*"), *folder.glob("*/*")):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise ValueError(f"{missing_file(file)}: libraries would wait for it for ever")
    index = load_json_settings(folder / _INDEX, _MAX_BYTES)
    named = {"_class_name": class_name(index)} if "_class_name" in index else {}
    _check({**index, **named}, PIPELINE, str(folder / _INDEX))
    _check(index.get("shift") or {}, SHIFT, f"{folder / _INDEX}: shift")
    for part in (*PARTS, *_NOT_USED):
        if part in index and not _is_entry(entry := index[part]):
            raise ValueError(f"{folder / _INDEX}: {part} must be [library, class], not {_shown(entry)}")
    for part, (name, kinds) in PARTS.items():
        entry = index.get(part)
        if entry is not None and entry[1] is not None and (folder / part / name).is_file():
            config = load_json_settings(folder / part / name, _MAX_BYTES)
            is_bert = kinds is TEXT_ENCODER and config.get("model_type") == "bert"
            _check(config, BERT if is_bert else kinds, str(folder / part / name))


def check_pipeline_settings(**settings: Any) -> None:
    """Refuse pipeline settings of a wrong type or out of range.

    Raises:
        ValueError: naming the first, its value and what it must be.
    """
    _check(settings, PIPELINE, "")


def saved_parts(folder: Path) -> tuple[str, ...]:
    """The subfolders of a saved pipeline's components, by its ``model_index.json``, without the scheduler.

    Raises:
        ValueError: if that can't be read.
    """
    index = load_json_settings(folder / _INDEX, _MAX_BYTES)
    parts = (part for part in PARTS if part != "scheduler" and _is_entry(index.get(part)))
    return tuple(part for part in parts if index[part][1] is not None)


def check_part_folders(folder: Path, parts: Iterable[str]) -> None:
    """Refuse a saved pipeline that lacks a part which its ``model_index.json`` names.

    Args:
        folder: of the pipeline.
        parts: names of subfolders.

    Raises:
        ValueError: naming the first.
    """
    for part in parts:
        if not (folder / part).is_dir():
            raise ValueError(f"{folder} has no folder {part}, which its {_INDEX} names: copy or download it whole")


def read_adapter_metadata(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read and check the metadata in the header of a LoRA or delta file; its tensors are not read.

    Args:
        path: the file.
        kind: the required kind, ``lora`` or ``delta``; None for any.

    Raises:
        ValueError: if the header can't be read or was not made by latentshift, a setting is missing or wrong, or the
            file is of another kind.
    """
    with open_safetensors(path) as file:
        text = (file.metadata() or {}).get(ADAPTER_KEY, "null")
    metadata: dict[str, Any] | None = parse_json_bounded(text, str(path))
    if metadata is None:
        raise ValueError(f"{path} was not made by latentshift: it has no latentshift metadata")
    check_adapter_metadata(metadata, str(path))
    if kind is not None and metadata["kind"] != kind:
        raise ValueError(f"{path} is a {metadata['kind']} and no {kind}; load it as such")
    return metadata


def check_adapter_metadata(metadata: Any, where: str) -> None:
    """Refuse invalid metadata of a LoRA or delta file.

    Args:
        metadata: from the file's header.
        where: the file, for the message.

    Raises:
        ValueError: naming the first setting that is missing or wrong.
    """
    if not isinstance(metadata, dict):
        raise ValueError(f"{where}: its metadata must be a group of settings, not {_shown(metadata)}")
    groups: list[tuple[str, Any, Mapping[str, Constraint], tuple[str, ...]]] = [
        ("", metadata, ADAPTER, ("kind", "settings", "temporal")),
        ("settings", metadata.get("settings"), ADAPTER_SETTINGS, ("num_frames", "prediction_type", "shift")),
        ("shift", (metadata.get("settings") or {}).get("shift"), SHIFT, ()),
        ("temporal", metadata.get("temporal"), TEMPORAL, ("widths", "heads")),
        ("lora", metadata.get("lora"), LORA, ("rank", "targets")),
    ]
    for name, group, kinds, needed in groups:
        place = f"{where}: {name}" if name else where
        if group is None:
            continue
        if not isinstance(group, dict):
            raise ValueError(f"{place} must be a group of settings, not {_shown(group)}")
        if missing := [each for each in needed if each not in group]:
            raise ValueError(f"{place}: {missing[0]} is missing")
        _check(group, kinds, place)
        if name != "settings" and (unknown := sorted(set(group) - set(kinds))):
            raise ValueError(f"{place}: there is no setting {_shown(unknown[0])}")
    if (needed_for := {"lora": "lora", "delta": "base"}[metadata["kind"]]) not in metadata:
        raise ValueError(f"{where}: {needed_for} is missing")


def _check(config: Mapping[str, Any], kinds: Mapping[str, Constraint], where: str) -> None:
    for setting, kind in kinds.items():
        if setting in config and not kind.fits(config[setting]):
            place = f"{where}: {setting}" if where else setting
            raise ValueError(f"{place} must be {kind.words}, not {_shown(config[setting])}")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(each is None or isinstance(each, str) for each in entry)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
