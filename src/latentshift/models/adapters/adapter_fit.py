"""Whether the adapters in files are for a model, by the headers of both: nothing is loaded for it, and no torch needed.

A part of a model that is not known, as that of a hub id, fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from latentshift.models.adapters.lora_file import PARTS, SGM_LAYERS, LoraLayer, Shape, flat_name, tensor_shapes
from latentshift.models.storage.weight_files import weight_files

Layers = Mapping[str, Mapping[str, Shape]]  # part of a pipeline -> layer's name, flat -> shape of its weight


def check_lora_fits(layers: Iterable[LoraLayer], model: Layers, where: str) -> None:
    """Refuse a LoRA of another model.

    Args:
        layers: of the LoRA.
        model: layers of the pipeline; a part that is not there is not known, and one that is empty does not exist.
        where: the file, for messages.

    Raises:
        ValueError: naming the first layer that the model does not have, or that is of another shape there.
    """
    for each in layers:
        if each.part not in model:
            continue
        own = model[each.part]
        if each.layer.startswith(SGM_LAYERS):  # its name in the model is known when the file is converted
            widths = {shape[1] for name, shape in own.items() if name.endswith("attn2_to_k")}
            if each.layer.endswith("attn2_to_k") and widths and each.down[1] not in widths:
                raise ValueError(_other_width(where, each, each.down[1], min(widths)))
            continue
        shape = own.get(each.layer)
        if shape is None:
            missing = f"its {each.part} has no layer {each.layer}" if own else f"it has no {each.part}"
            raise ValueError(f"{where} is a LoRA of another model than this one: {missing}")
        if each.down[1] != shape[1]:
            raise ValueError(_other_width(where, each, each.down[1], shape[1]))
        if each.up[0] != shape[0] or (each.down[2:] and each.down[2:] != shape[2:]):
            raise ValueError(
                f"{where} is a LoRA of another model than this one: {each.layer} is of the shape {shape} here, and "
                f"{(each.up[0], *each.down[1:])} there"
            )


def check_delta_fits(path: Path, model: Layers) -> None:
    """Refuse a difference of all weights that is of a model with other layers, from its header.

    Args:
        path: of the file.
        model: layers of the pipeline, as for :func:`check_lora_fits`.

    Raises:
        ValueError: naming the first layer that the model does not have, or that is of another shape there.
    """
    for part in PARTS:
        prefix = f"{part}."
        shapes = {
            name.removeprefix(prefix): shape for name, shape in tensor_shapes(path).items() if name.startswith(prefix)
        }
        for layer, shape in layers_of(shapes).items() if part in model else ():
            own = model[part].get(layer)
            if own != shape:
                here = "does not have it" if own is None else f"has it in the shape {own}"
                raise ValueError(
                    f"{path} is of another kind of model than this one: its {part} has {layer} of the shape {shape}, "
                    f"and this one {here}"
                )


def saved_layers(folder: Path, variant: str | None) -> dict[str, dict[str, Shape]]:
    """The layers of a saved pipeline that LoRAs may change, from the headers of its weight files.

    Args:
        folder: of the pipeline.
        variant: of its weight files.

    Raises:
        ValueError: if a header can't be read.
    """
    places = {part: [folder / part] for part in PARTS}
    places["text_encoder"].append(folder / "bert")  # LDM's pipeline
    layers: dict[str, dict[str, Shape]] = {}
    for part, folders in places.items():
        shapes: dict[str, Shape] = {}
        for place in folders:
            for path in weight_files(place, variant):
                shapes |= tensor_shapes(path)
        if shapes or not any(place.is_dir() for place in folders):
            layers[part] = layers_of(shapes)
    return layers


def layers_of(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Layers with a weight of two dimensions or more, by flat names, from a model's tensors."""
    return {
        flat_name(name.removesuffix(".weight")): shape
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) > 1
    }


def _other_width(where: str, layer: LoraLayer, given: int, wanted: int) -> str:
    widths = f"takes {wanted} channels here, and {given} there"
    return f"{where} is a LoRA of another model than this one: {layer.layer} {widths}"
