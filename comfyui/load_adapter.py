"""LoRA and delta files of latentshift on a MODEL of their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentshift.models.storage.model_config import read_adapter_metadata
from latentshift.settings import ShiftConfig

from .noise_patch import share_noise
from .prediction import set_prediction
from .shift_patch import apply_temporal_shift


def load_adapter(model: Any, file: Path, strength: float) -> Any:
    """A clone of a MODEL with an adapter's weights on its own, its shift and its share of noise.

    ComfyUI's LoRA loader takes the convolutions of such a file alone: it knows the attention's names in an older
    spelling of diffusers', and says what it leaves out in its log only.

    Args:
        model: the base that the adapter was trained on.
        file: that ``latentshift train`` wrote.
        strength: of the weights; 1 as they were trained.

    Raises:
        ValueError: if the file can't be read, is of another family, or has more than the U-Net's weights.
    """
    import comfy.lora
    import comfy.utils

    metadata = read_adapter_metadata(file)
    if metadata.get("temporal") is not None:
        raise ValueError(f"{file} has the temporal layers of Latent-VDM, which these nodes do not know")
    settings = metadata["settings"]
    if settings["shift"] is None:
        raise ValueError(f"{file} was trained without the temporal shift")
    tensors = comfy.utils.load_torch_file(str(file), safe_load=True)
    if others := sorted({name.split(".", 1)[0] for name in tensors} - {"unet"}):
        raise ValueError(
            f"{file} also changes the {others[0]}, which these nodes can't take from it; load the run's model instead"
        )
    own = model.model.state_dict()
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    keys = {f"unet.{theirs}": f"diffusion_model.{comfys}" for theirs, comfys in names.items()}
    patches: dict[str, Any] = {}
    if metadata["kind"] == "lora":
        layers = sorted({name.rsplit(".lora_", 1)[0] for name in tensors})
        for layer in layers:
            down, up = tensors.get(f"{layer}.lora_A.weight"), tensors.get(f"{layer}.lora_B.weight")
            weight = own.get(keys.get(f"{layer}.weight"))
            if down is None or up is None or weight is None or (len(up), *down.shape[1:]) != tuple(weight.shape):
                raise ValueError(_does_not_fit(file, layer))
        patches = comfy.lora.load_lora(tensors, {layer: keys[f"{layer}.weight"] for layer in layers})
    else:
        for name, difference in tensors.items():
            weight = own.get(keys.get(name))
            if weight is None or weight.shape != difference.shape:
                raise ValueError(_does_not_fit(file, name))
            patches[keys[name]] = ("diff", (difference,))
    clone = model.clone()
    clone.add_patches(patches, strength)
    clone = set_prediction(clone, settings["prediction_type"])
    clone = apply_temporal_shift(clone, ShiftConfig.from_dict(settings["shift"]))
    return share_noise(clone, settings.get("noise_share", 0.0))


def _does_not_fit(file: Path, name: str) -> str:
    return f"{file} was made of another kind of base than this MODEL: {name} does not fit"
