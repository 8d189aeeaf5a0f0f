"""Adapter files that turn an image base into a video model: a LoRA of the U-Net, or a delta of all weights.

One safetensors file with ``unet.….lora_A.weight`` and ``lora_B`` in diffusers' naming, or the differences of
``unet.…``, ``text_encoder.…`` and so on; all weights of temporal layers as ``temporal.…``; and, in its metadata, the
temporal method and the pipeline's settings. Knows nothing of training.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentshift.diffusion.schedulers import check_linear
from latentshift.files import atomic_write
from latentshift.models.adapters.joint_projections import check_not_fused
from latentshift.models.adapters.lora_weights import check_tensors_finite
from latentshift.models.latent_vdm import TemporalAttention
from latentshift.models.storage.fingerprint import weights_fingerprint
from latentshift.models.storage.model_config import ADAPTER_KEY, read_adapter_metadata
from latentshift.settings import LORA_TARGETS
from latentshift.user_input.argument_types import is_number

Kind = Literal["lora", "delta"]
_PARTS = ("unet", "text_encoder", "text_encoder_2")
_NAME = "latentshift"  # of the LoRA within the U-Net
# The pipeline settings that an adapter contains.
_SETTINGS = ("shift", "num_frames", "fps", "guidance_scale", "noise_share")


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (Hu et al. 2021) on some of the U-Net's layers.

    Attributes:
        rank: of each layer's update.
        alpha: the update is scaled by alpha / rank; None: by 1.
        targets: suffixes of the names of the adapted layers: attention projections, and the convolutions of the ResNet
            blocks, the first of which sees the shifted frames.
        dropout: of the adapter's input in training.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = LORA_TARGETS
    dropout: float = 0.0


def add_lora(unet: nn.Module, lora: Lora) -> None:
    """Freeze a U-Net and add a new LoRA, which changes nothing yet.

    Raises:
        ValueError: if a target is the name of no layer that a LoRA can change.
    """
    layers = [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    for target in lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise ValueError(
                f"the LoRA's targets name {target}, and no linear or convolution layer of the U-Net ends in it; choose "
                f"names such as {', '.join(LORA_TARGETS)}"
            )
    unet.requires_grad_(False)
    unet.add_adapter(_peft_config(lora), adapter_name=_NAME)  # type: ignore[operator]


def merge_lora(unet: nn.Module) -> None:
    """Merge the LoRA into the weights, which gives a stock U-Net again."""
    unet.fuse_lora(adapter_names=[_NAME])  # type: ignore[operator]
    unet.unload_lora()  # type: ignore[operator]


def save_lora(pipeline: Any, lora: Lora, path: Path, base_prediction_type: str | None = None) -> None:
    """Save the LoRA of a pipeline's U-Net, and its temporal layers, in float16.

    The factor alpha / rank is folded into the weights and alpha is recorded as the rank, so that readers of the tensors
    alone, such as stock diffusers, apply the trained update at the right scale.

    Args:
        pipeline: with the LoRA.
        lora: of its U-Net.
        path: of the file.
        base_prediction_type: what the base predicts, which is recorded; None: not known.
    """
    state = get_peft_model_state_dict(pipeline.unet, adapter_name=_NAME)
    scale = 1.0 if lora.alpha is None else lora.alpha / lora.rank
    tensors = {f"unet.{name}": value * scale if ".lora_B." in name else value for name, value in state.items()}
    base = {} if base_prediction_type is None else {"base_prediction_type": base_prediction_type}
    _save(pipeline, "lora", tensors, path, lora=asdict(replace(lora, alpha=None)), **base)


def save_delta(pipeline: Any, base: Any, path: Path) -> None:
    """Save the difference between a pipeline's weights and its base's, in float16; equal tensors are omitted."""
    tensors: dict[str, Tensor] = {}
    for part in _PARTS:
        tuned, former = getattr(pipeline, part), getattr(base, part)
        if tuned is None:
            continue
        before = former.state_dict()
        for name, value in tuned.state_dict().items():
            difference = value.float().cpu() - before[name].float().cpu()
            if difference.any():
                tensors[f"{part}.{name}"] = difference
    predicts = base.scheduler.config.prediction_type
    _save(pipeline, "delta", tensors, path, base=weights_fingerprint(base.unet), base_prediction_type=predicts)


def load_adapter(
    pipeline: Any, path: Path, kind: Kind | None = None, weight: float = 1.0, *, other_base: bool = False
) -> None:
    """Apply an adapter file to a pipeline of its base, or of another model with the same layers, in place.

    The pipeline gets the settings that the adapter was trained with: shift, shared noise, frames and guidance. Of
    several adapters the last one's stay, so apply only such as were trained with the same.

    Args:
        pipeline: of the base; a LoRA takes any of the same architecture that predicts the same.
        path: the file.
        kind: the required kind; None for any.
        weight: that a LoRA's update is multiplied by.
        other_base: whether a delta may be added to other weights than those it was made of.

    Raises:
        ValueError: if the file can't be read, is of another kind, was made from a base of other layers or that predicts
            something else, or is a delta of other weights without ``other_base``, the weight or a tensor is not
            finite, or the U-Net's projections are joint. The pipeline's weights are as they were then.
    """
    metadata = read_adapter_metadata(path, kind)
    if not is_number(weight):
        raise ValueError(f"the weight of {path} must be a finite number, not {weight!r}")
    check_not_fused(pipeline.unet, str(path))
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    check_tensors_finite(tensors, str(path))
    _check_prediction(pipeline, metadata, path, other_base=other_base)
    noise_share = metadata["settings"].pop("noise_share", 0.0)  # missing in files from before there was one
    check_linear(pipeline.scheduler, noise_share)
    pipeline.own_weights()  # a pipeline that shares the weights is not changed
    temporal = metadata.pop("temporal")
    settings = metadata.pop("settings")
    prediction_type, shift = settings.pop("prediction_type"), settings.pop("shift")
    sample_size = settings.pop("sample_size", None)  # missing in files of the first version
    if metadata["kind"] == "lora":
        state = _part(tensors, "unet")
        state = {name: value * weight if ".lora_B." in name else value for name, value in state.items()}
        _add_lora_weights(pipeline.unet, state, Lora(**metadata["lora"]), path)
    else:
        if not other_base and metadata["base"] != weights_fingerprint(pipeline.unet):
            raise ValueError(
                f"{path} was made of another base than this one, or this one was not loaded in float32; to add it to "
                f"other weights all the same: latentshift init --base MODEL --delta {path} --other-base -o DIR"
            )
        parts = [(getattr(pipeline, part), _part(tensors, part)) for part in _PARTS]
        for module, state in parts:
            _check_delta(module, state, path)
        for module, state in parts:
            _add_delta(module, state)
    pipeline.scheduler.register_to_config(prediction_type=prediction_type)
    if sample_size is not None:
        pipeline.unet.register_to_config(sample_size=sample_size)
    layers = None
    if temporal is not None:
        with torch.device("meta"):  # no memory for weights that are loaded below
            layers = TemporalAttention(**temporal)
        try:
            layers.load_state_dict(_part(tensors, "temporal"), assign=True)
        except RuntimeError:
            raise ValueError(f"{path} is damaged: its temporal layers do not match its metadata") from None
        layers.to(pipeline.unet.device, pipeline.unet.dtype)
    pipeline.set_temporal(layers)
    pipeline.set_shift(shift)
    pipeline.set_noise_share(noise_share)
    pipeline.register_to_config(**settings)


def _peft_config(lora: Lora) -> LoraConfig:
    alpha = lora.rank if lora.alpha is None else lora.alpha
    return LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=list(lora.targets), lora_dropout=lora.dropout)


def _save(pipeline: Any, kind: Kind, tensors: dict[str, Tensor], path: Path, **more: Any) -> None:
    temporal = pipeline.temporal
    if temporal is not None:
        tensors |= {f"temporal.{name}": value for name, value in temporal.state_dict().items()}
        kept = {name: value for name, value in temporal.config.items() if not name.startswith("_")}
    settings = {name: pipeline.config[name] for name in _SETTINGS}
    settings["prediction_type"] = pipeline.scheduler.config.prediction_type
    settings["sample_size"] = pipeline.unet.config.sample_size
    metadata = {"kind": kind, "settings": settings, "temporal": None if temporal is None else kept, **more}
    halves = {name: _half(value.detach().cpu()) for name, value in tensors.items()}
    with atomic_write(path) as temporary:
        # One entry alone: safetensors writes several in an order of chance, and equal files would differ.
        save_file(halves, temporary, metadata={ADAPTER_KEY: json.dumps(metadata)})


def _half(value: Tensor) -> Tensor:
    half = value.to(torch.float16).contiguous()
    return (
        half if torch.isfinite(half).all() else value.float().contiguous()
    )  # values too large for float16 stay float32


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _add_lora_weights(unet: Any, state: dict[str, Tensor], lora: Lora, path: Path) -> None:
    trained = [parameter.requires_grad for parameter in unet.parameters()]
    unet.add_adapter(_peft_config(lora), adapter_name=_NAME)
    wanted = get_peft_model_state_dict(unet, adapter_name=_NAME)
    differing = sorted(wanted.keys() ^ state.keys()) or [
        name for name, value in wanted.items() if value.shape != state[name].shape
    ]
    if differing:
        unet.delete_adapters(_NAME)
        raise ValueError(f"{path} was made of another kind of base: {differing[0]} does not fit")
    set_peft_model_state_dict(unet, state, adapter_name=_NAME)
    merge_lora(unet)
    for parameter, before in zip(unet.parameters(), trained, strict=True):
        parameter.requires_grad_(before)


def _check_prediction(pipeline: Any, metadata: dict[str, Any], path: Path, *, other_base: bool) -> None:
    """Refuse an adapter of a base that predicts something else: its weights would mean something else here."""
    trained = metadata.pop("base_prediction_type", None)  # missing in files from before it was recorded
    if trained is None and other_base:
        trained = metadata["settings"]["prediction_type"]
    own = pipeline.scheduler.config.prediction_type
    if trained not in (None, own):
        raise ValueError(
            f"{path} was trained on a model with the prediction type {trained}, and this one has {own}: it can't be "
            "added to it"
        )


def _check_delta(module: nn.Module | None, state: dict[str, Tensor], path: Path) -> None:
    own = {} if module is None else module.state_dict()
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            raise ValueError(f"{path} was made of another kind of base: {name} does not fit")


def _add_delta(module: nn.Module | None, state: dict[str, Tensor]) -> None:
    own = {} if module is None else module.state_dict()
    for name, value in state.items():
        own[name] += value.to(own[name].device, own[name].dtype)
