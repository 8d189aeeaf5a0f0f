"""Small files that turn an image base into a video model: a LoRA of the U-Net, or the difference of all weights.

One safetensors file: ``unet.….lora_A.weight`` and ``lora_B`` as diffusers names them, or what is to be added to
``unet.…``, ``text_encoder.…`` and so on; ``temporal.…`` whole, where there are temporal layers; and in its metadata how
frames meet and what the model is otherwise asked for. Knows nothing of training.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latentshift.bounded_read import parse_json_bounded
from latentshift.files import atomic_write
from latentshift.models.fingerprint import weights_fingerprint
from latentshift.models.latent_vdm import TemporalAttention
from latentshift.models.model_config import check_adapter_metadata
from latentshift.settings import LORA_TARGETS

Kind = Literal["lora", "delta"]
_KEY = "latentshift"
_PARTS = ("unet", "text_encoder", "text_encoder_2")
_NAME = "latentshift"  # of the LoRA within the U-Net
# The pipeline's settings that a video model brings along.
_SETTINGS = ("shift", "num_frames", "fps", "guidance_scale")


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (Hu et al. 2021) on some of the U-Net's layers.

    Attributes:
        rank: of each layer's change.
        alpha: the change is scaled by alpha / rank; None: by one.
        targets: how the names of the layers end; attention's projections, and the convolutions of the ResNet blocks, of
            which the first sees the shifted frames.
        dropout: of the adapter's input in training.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = LORA_TARGETS
    dropout: float = 0.0


def add_lora(unet: nn.Module, lora: Lora) -> None:
    """Freeze a U-Net and put a new adapter beside its layers, which changes nothing yet.

    Raises:
        ValueError: if none of its layers' names ends as the targets do.
    """
    unet.requires_grad_(False)
    unet.add_adapter(_peft_config(lora), adapter_name=_NAME)  # type: ignore[operator]


def merge_lora(unet: nn.Module) -> None:
    """Add the adapter to the weights, and take it out: a stock U-Net again."""
    unet.fuse_lora(adapter_names=[_NAME])  # type: ignore[operator]
    unet.unload_lora()  # type: ignore[operator]


def save_lora(pipeline: Any, lora: Lora, path: Path) -> None:
    """Write the adapter of a pipeline's U-Net, and its temporal layers, in float16.

    The factor alpha / rank goes into the weights and the file says that alpha is the rank: so all who read the tensors
    alone, stock diffusers among them, add the change that was trained.
    """
    state = get_peft_model_state_dict(pipeline.unet, adapter_name=_NAME)
    scale = 1.0 if lora.alpha is None else lora.alpha / lora.rank
    tensors = {f"unet.{name}": value * scale if ".lora_B." in name else value for name, value in state.items()}
    _save(pipeline, "lora", tensors, path, lora=asdict(replace(lora, alpha=None)))


def save_delta(pipeline: Any, base: Any, path: Path) -> None:
    """Write what makes a pipeline's weights of its base's, in float16; parts that are equal are left out."""
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
    _save(pipeline, "delta", tensors, path, base=weights_fingerprint(base.unet))


def load_adapter(pipeline: Any, path: Path, kind: Kind | None = None) -> None:
    """Turn a pipeline, in place, into the video model that a file was made of; its weights become the pipeline's.

    Args:
        pipeline: of the base.
        path: the file.
        kind: what it has to be; None: what it is.

    Raises:
        ValueError: for a file that cannot be read, is of another kind, or was made of another base.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY, "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    told = parse_json_bounded(text, str(path))
    if told is None:
        raise ValueError(f"{path} was not made by latentshift: it does not say how frames meet")
    check_adapter_metadata(told, str(path))
    if kind is not None and told["kind"] != kind:
        raise ValueError(f"{path} is a {told['kind']} and no {kind}; load it as such")
    pipeline.own_weights()  # a pipeline that shares them goes on as before
    temporal = told.pop("temporal")
    settings = told.pop("settings")
    prediction_type, shift = settings.pop("prediction_type"), settings.pop("shift")
    sample_size = settings.pop("sample_size", None)  # the first files did not tell
    if told["kind"] == "lora":
        _add(pipeline.unet, _part(tensors, "unet"), Lora(**told["lora"]), path)
    else:
        if told["base"] != weights_fingerprint(pipeline.unet):
            raise ValueError(f"{path} was made of another base than this one, or this one was not loaded in float32")
        for part in _PARTS:
            _sum(getattr(pipeline, part), _part(tensors, part), path)
    pipeline.scheduler.register_to_config(prediction_type=prediction_type)
    if sample_size is not None:
        pipeline.unet.register_to_config(sample_size=sample_size)
    layers = None
    if temporal is not None:
        with torch.device("meta"):  # no memory for what is only said
            layers = TemporalAttention(**temporal)
        try:
            layers.load_state_dict(_part(tensors, "temporal"), assign=True)
        except RuntimeError:
            raise ValueError(f"{path} is damaged: its temporal layers are not those that it says it has") from None
        layers.to(pipeline.unet.device, pipeline.unet.dtype)
    pipeline.set_temporal(layers)
    pipeline.set_shift(shift)
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
    told = {"kind": kind, "settings": settings, "temporal": None if temporal is None else kept, **more}
    halves = {name: _half(value.detach().cpu()) for name, value in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(halves, temporary, metadata={"format": "pt", _KEY: json.dumps(told)})


def _half(value: Tensor) -> Tensor:
    half = value.to(torch.float16).contiguous()
    return half if torch.isfinite(half).all() else value.float().contiguous()  # what is too large for it stays whole


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _add(unet: Any, state: dict[str, Tensor], lora: Lora, path: Path) -> None:
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


def _sum(module: nn.Module | None, state: dict[str, Tensor], path: Path) -> None:
    if not state:
        return
    own = {} if module is None else module.state_dict()
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            raise ValueError(f"{path} was made of another kind of base: {name} does not fit")
        own[name] += value.to(own[name].device, own[name].dtype)
