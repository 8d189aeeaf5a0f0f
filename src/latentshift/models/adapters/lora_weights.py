"""The tensors of a LoRA file as diffusers' loaders take them, checked against the model that they are for.

diffusers converts kohya's names, and ignores what it does not know: peft's names, and those of a U-Net alone, become
diffusers' here, and a LoRA of another model is refused before a layer is changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn

from latentshift.files import missing_file
from latentshift.frame_context import uncompiled
from latentshift.models.adapters.adapter_fit import check_lora_fits, layers_of
from latentshift.models.adapters.lora_file import (
    alpha_factors,
    lora_layers,
    settings_of_parts,
    split_part,
    style_of,
    to_diffusers_key,
)
from latentshift.models.adapters.lora_settings import PEFT_CONFIG
from latentshift.models.storage.model_config import ADAPTER_KEY, read_adapter_metadata
from latentshift.models.storage.safetensors_header import open_safetensors, refuse_pickle
from latentshift.settings import ShiftConfig
from latentshift.user_input.error_text import one_line

_STANDARD_NAME = "pytorch_lora_weights.safetensors"
_PEFT_NAME = "adapter_model.safetensors"
_HUB_OPTIONS = ("cache_dir", "revision", "token", "local_files_only", "force_download", "subfolder")


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA with diffusers' names.

    Attributes:
        tensors: ``unet.….lora_A.weight`` and ``lora_B``, likewise ``text_encoder`` and ``text_encoder_2``.
        metadata: peft's settings with the same prefixes; None if the file has none.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any] | None


def find_lora_file(source: str | Path, options: Mapping[str, Any]) -> Path:
    """The file that a user names.

    Args:
        source: a file, a folder, or a hub id.
        options: ``weight_name``, the file's within a folder or on the hub, by default the usual ones; and options of
            ``hf_hub_download``.

    Raises:
        ValueError: if there is none, or it is a pickle.
    """
    name = options.get("weight_name")
    refuse_pickle(name or str(source))
    path = Path(source)
    if path.is_file():
        return path
    names = [name] if name else [_STANDARD_NAME, _PEFT_NAME]
    if path.is_dir():
        folder = path / (options.get("subfolder") or "")
        files = [folder / each for each in names if (folder / each).is_file()]
        files = files or ([] if name else sorted(folder.glob("*.safetensors")))
        if len(files) != 1:
            there = f"{len(files)} .safetensors files" if files else f"no {names[0]}"
            raise ValueError(f"{folder} has {there}: name the LoRA's file with weight_name")
        refuse_pickle(files[0])
        return files[0]
    if not is_hub_id(source):
        raise ValueError(missing_file(path))
    passed_on = {key: value for key, value in options.items() if key in _HUB_OPTIONS and value is not None}
    reasons = []
    for each in names:
        try:
            file = Path(hf_hub_download(str(source), each, **passed_on))
        except Exception as error:  # whatever the hub makes the library raise
            reasons.append(one_line(error))
            continue
        if each == _PEFT_NAME:
            try:
                hf_hub_download(str(source), PEFT_CONFIG, **passed_on)
            except Exception as error:
                raise ValueError(
                    f"{PEFT_CONFIG} of {source}, which says how strong the LoRA is (lora_alpha), could not be "
                    f"downloaded: {one_line(error)}"
                ) from None
        return file
    raise ValueError(
        f"there is no file {source}, and {names[0]} of a model of that name could not be downloaded: {reasons[0]}"
    )


def read_lora(
    source: str | Path | dict[str, Tensor],
    parts: Mapping[str, nn.Module | None],
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    options: Mapping[str, Any],
) -> LoraWeights:
    """Read a LoRA and check that it is for this model.

    Args:
        source: as for :func:`find_lora_file`; or tensors by name.
        parts: of the pipeline.
        convert: kohya's names to diffusers'.
        options: as for :func:`find_lora_file`.

    Raises:
        ValueError: if it can't be read, is no LoRA, or is one of another model.
    """
    where, folder = "the LoRA", None
    metadata: dict[str, str] = {}
    if isinstance(source, dict):
        tensors = dict(source)
    else:
        file = find_lora_file(source, options)
        where, folder = str(file), file.parent
        with open_safetensors(file) as opened:
            metadata = opened.metadata() or {}
        tensors = load_file(file)
    check_tensors_finite(tensors, where)
    layers = lora_layers({key: tuple(value.shape) for key, value in tensors.items()}, where)  # before it is converted
    settings = settings_of_parts(layers, tensors, metadata, folder, where)
    tensors = _fold_alphas(tensors, where)
    if style_of(tensors) == "kohya":
        try:
            tensors = convert(tensors)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(f"{where} can't be read as a LoRA of this model: {one_line(error)}") from None
    layers = lora_layers({key: tuple(value.shape) for key, value in tensors.items()}, where)
    check_lora_fits(layers, loaded_layers(parts), where)
    tensors = {to_diffusers_key(key): value for key, value in tensors.items()}
    return LoraWeights(tensors, None if settings is None else _with_targets(settings, tensors))


def is_hub_id(source: str | Path) -> bool:
    """Whether a name that is no file or folder may be one of the hub, OWNER/NAME."""
    return str(source).count("/") == 1 and not str(source).startswith((".", "/", "~"))


def check_tensors_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not finite, which would make nothing but black videos.

    Args:
        tensors: by name.
        where: they are from, for messages.

    Raises:
        ValueError: naming the first tensor.
    """
    for name, value in tensors.items():
        if not (value.is_meta or value.float().isfinite().all()):  # on meta: offloaded, and not at hand
            raise ValueError(f"{where} is damaged: its tensor {name} has values that are not finite")


def check_own_settings(path: Path, pipeline: Any) -> None:
    """Refuse a LoRA of latentshift's training that was trained as another video model than this pipeline's.

    Raises:
        ValueError: naming the setting that differs.
    """
    with open_safetensors(path) as file:
        if ADAPTER_KEY not in (file.metadata() or {}):
            return
    metadata = read_adapter_metadata(path, "lora")
    trained, ours = metadata["settings"], pipeline.config
    pairs = {
        "shift": tuple(each and ShiftConfig.from_dict(each) for each in (trained["shift"], ours.shift)),
        "noise_share": (trained.get("noise_share", 0.0), ours.noise_share),
        "prediction_type": (trained["prediction_type"], pipeline.scheduler.config.prediction_type),
        "temporal": (metadata["temporal"], None),
    }
    for name, (theirs, own) in pairs.items():
        if theirs != own:
            raise ValueError(
                f"{path} was trained with other settings than this pipeline has ({name}): "
                "latentshift.models.adapters.video_adapter.load_adapter(pipeline, path) takes it with its settings"
            )


def loaded_layers(parts: Mapping[str, nn.Module | None]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The layers of a pipeline's parts that LoRAs may change; quantized parts have other shapes and are left out."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, part in parts.items():
        module: Any = None if part is None else uncompiled(part)
        if module is None:
            layers[name] = {}
        elif getattr(module.config, "quantization_config", None) is None:
            layers[name] = layers_of({key: tuple(value.shape) for key, value in module.named_parameters()})
    return layers


def _fold_alphas(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A LoRA's tensors with alpha / rank in the second factor: diffusers ignores alphas beside its own names, and mixes
    up those of kohya's text encoders."""
    folded = {key: value for key, value in tensors.items() if not key.endswith(".alpha")}
    for key, (up, *bias) in alpha_factors(tensors, where).items():
        alpha = float(tensors[key])
        if not math.isfinite(alpha):
            raise ValueError(f"{where} is damaged: its tensor {key} is {alpha}")
        for name in (up, *bias):
            value = tensors[name]
            folded[name] = (value.float() * (alpha / tensors[up].shape[1])).to(value.dtype)
    return folded


def _with_targets(settings: Mapping[str, Mapping[str, Any]], tensors: Iterable[str]) -> dict[str, Any]:
    """peft's settings as diffusers takes them, by part and name, for the layers that have tensors."""
    layers: dict[str, set[str]] = {}
    for key in tensors:
        part, rest = split_part(key)
        layer = rest.partition(".lora_")[0]
        layers.setdefault(part, set()).add(layer if part == "unet" else layer.removeprefix("text_model."))
    return {
        f"{part}.{name}": value
        for part, names in layers.items()
        for name, value in {**settings[part], "target_modules": sorted(names)}.items()
    }
