"""LoRA and delta files of latentshift on a MODEL of their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentshift.models.adapters.lora_weights import check_tensors_finite
from latentshift.models.storage.model_config import ADAPTER_KEY, read_adapter_metadata
from latentshift.models.storage.safetensors_header import open_safetensors
from latentshift.settings import ShiftConfig
from latentshift.user_input.argument_types import is_number

from .noise_patch import share_noise
from .prediction import prediction_of, set_prediction
from .shift_patch import apply_temporal_shift, own_clone


def load_adapter(model: Any, file: Path, strength: float) -> Any:
    """A clone of a MODEL with an adapter's weights on its own, its shift and its share of noise.

    ComfyUI's LoRA loader takes the convolutions of such a file alone: it knows the attention's names in an older
    spelling of diffusers', and says what it leaves out in its log only.

    Args:
        model: the base that the adapter was trained on.
        file: that ``latentshift train`` wrote.
        strength: of the weights; 1 as they were trained.

    Raises:
        ValueError: if the file can't be read, is of another family or of a base that predicts something else, or has
            more than the U-Net's weights, or a tensor or the strength is not finite.
    """
    import comfy.utils

    clone = own_clone(model)
    metadata = _read_metadata(file)
    _check_prediction(clone, metadata.get("base_prediction_type"), file)
    if not is_number(strength):
        raise ValueError(f"the strength of {file} must be a finite number, not {strength!r}")
    tensors = comfy.utils.load_torch_file(str(file), safe_load=True)
    if others := sorted({name.split(".", 1)[0] for name in tensors} - {"unet"}):
        raise ValueError(
            f"{file} also changes the {others[0]}, which these nodes can't take from it; load the run's model instead"
        )
    check_tensors_finite(tensors, str(file))
    clone.add_patches(_patches(clone, metadata["kind"], tensors, file), strength)
    settings = metadata["settings"]
    set_prediction(clone, settings["prediction_type"])
    apply_temporal_shift(clone, ShiftConfig.from_dict(settings["shift"]))
    share_noise(clone, settings.get("noise_share", 0.0))
    return clone


def _read_metadata(file: Path) -> dict[str, Any]:
    with open_safetensors(file) as opened:
        if ADAPTER_KEY not in (opened.metadata() or {}):
            raise ValueError(
                f"{file} was not made by latentshift: a LoRA of an image model is for ComfyUI's own Load LoRA, which "
                "this node's MODEL can go through"
            )
    metadata = read_adapter_metadata(file)
    if metadata.get("temporal") is not None:
        raise ValueError(f"{file} has the temporal layers of Latent-VDM, which these nodes do not know")
    if metadata["settings"]["shift"] is None:
        raise ValueError(f"{file} was trained without the temporal shift")
    return metadata


def _check_prediction(model: Any, trained: str | None, file: Path) -> None:
    """Refuse an adapter of a base that predicts something else (``trained``; None: not recorded)."""
    own = prediction_of(model)
    if trained not in (None, own):
        raise ValueError(
            f"{file} was trained on a model with the prediction type {trained}, and this MODEL has {own}: choose its "
            "own base, or if this is it, tell ComfyUI what it predicts by ModelSamplingDiscrete before this node"
        )


def _patches(model: Any, kind: str, tensors: dict[str, Any], file: Path) -> dict[str, Any]:
    """An adapter's tensors as ComfyUI's patches of weights.

    Raises:
        ValueError: if a tensor is for a layer that the MODEL does not have, or that is of another shape there.
    """
    import comfy.lora
    import comfy.utils

    own = model.model.state_dict()
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    keys = {f"unet.{theirs}": f"diffusion_model.{comfys}" for theirs, comfys in names.items()}
    if kind == "lora":
        layers = sorted({name.rsplit(".lora_", 1)[0] for name in tensors})
        for layer in layers:
            down, up = tensors.get(f"{layer}.lora_A.weight"), tensors.get(f"{layer}.lora_B.weight")
            weight = own.get(keys.get(f"{layer}.weight"))
            if down is None or up is None or weight is None or (len(up), *down.shape[1:]) != tuple(weight.shape):
                raise ValueError(_does_not_fit(file, layer))
        return comfy.lora.load_lora(tensors, {layer: keys[f"{layer}.weight"] for layer in layers})
    patches = {}
    for name, difference in tensors.items():
        weight = own.get(keys.get(name))
        if weight is None or weight.shape != difference.shape:
            raise ValueError(_does_not_fit(file, name))
        patches[keys[name]] = ("diff", (difference,))
    return patches


def _does_not_fit(file: Path, name: str) -> str:
    return f"{file} was made of another kind of base than this MODEL: {name} does not fit"
