"""LoRA files of any trainer, by the names and shapes of their tensors: which layers they change, and whether a model
has these. Needs no torch, so that a file of another model is refused before anything is loaded.

Four ways to name a tensor are known: diffusers' (``unet.….lora_A.weight``), kohya's (``lora_unet_….lora_down.weight``),
peft's (``base_model.model.….lora_A.weight`` beside an ``adapter_config.json``), and that of a U-Net alone
(``….lora_A.weight``, as its ``save_lora_adapter`` writes). Legend of shapes: r rank, in and out channels, k kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentshift.bounded_read import load_json_settings
from latentshift.files import missing_file
from latentshift.models.model_config import ADAPTER_KEY
from latentshift.models.safetensors_header import open_safetensors
from latentshift.models.weight_files import weight_files

Style = Literal["diffusers", "kohya", "peft", "bare"]
Shape = tuple[int, ...]
Layers = Mapping[str, Mapping[str, Shape]]  # part of a pipeline -> layer's name, flat -> shape of its weight

PEFT_PREFIX = "base_model.model."
PEFT_CONFIG = "adapter_config.json"
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_KOHYA = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
_PARTS = ("unet", "text_encoder", "text_encoder_2")
# Layers of SDXL's U-Net in its original layout, which kohya's trainer keeps for SDXL alone.
_SGM = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_")
_DOWN = re.compile(r"(.+?)(?:\.lora_A|\.lora\.down|\.lora_linear_layer\.down|\.lora_down|_lora\.down)\.weight")
_UP = re.compile(r"(.+?)(?:\.lora_B|\.lora\.up|\.lora_linear_layer\.up|\.lora_up|_lora\.up)\.weight")
_BESIDE = re.compile(r"(.+?)\.(?:alpha|lora_B\.bias|lora_magnitude_vector(?:\.weight)?)")
_LYCORIS = ("hada_", "lokr_", "oft_", "dora_scale", ".diff", "glora")
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True)
class LoraLayer:
    """What a LoRA adds to one layer.

    Attributes:
        key: of the tensor in the file, for messages.
        part: of the pipeline: ``unet``, ``text_encoder`` or ``text_encoder_2``.
        layer: its name, flat (:func:`flat_name`).
        down: shape of the first factor, (r, in) or (r, in, k, k).
        up: shape of the second one, (out, r) or (out, r, 1, 1).
    """

    key: str
    part: str
    layer: str
    down: Shape
    up: Shape


def parse_lora(text: str) -> tuple[Path, float]:
    """A file and its weight from ``FILE`` or ``FILE:WEIGHT``.

    Raises:
        ValueError: if the weight is no finite number.
    """
    file, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists() or "/" in weight or "\\" in weight:
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the weight of {file} must be a number, as in {file}:0.8, not {weight!r}")
    return Path(file), value


def refuse_pickle(path: str | Path) -> None:
    """Refuse a file whose name or first bytes are a pickle's, which runs code of its author when it is opened.

    Args:
        path: a file, or only the name of one.

    Raises:
        ValueError: saying what to do.
    """
    path = Path(path)
    pickled = path.suffix.lower() in _PICKLES
    if not pickled and path.is_file():
        with path.open("rb") as file:
            pickled = file.read(4).startswith(_PICKLE_STARTS)
    if pickled:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is opened: ask for a .safetensors file of it"
        )


def is_own_lora(path: Path) -> bool:
    """Whether latentshift made a file: its metadata says so, and the settings of the video model are in it.

    Raises:
        ValueError: if there is no such file, or it is a pickle or no safetensors file.
    """
    if not path.is_file():
        raise ValueError(missing_file(path))
    refuse_pickle(path)
    with open_safetensors(path) as file:
        return ADAPTER_KEY in (file.metadata() or {})


def read_lora_layers(path: Path) -> list[LoraLayer]:
    """The layers that a file changes, from its header.

    Raises:
        ValueError: if it is no LoRA of a layout that is known, or is damaged.
    """
    with open_safetensors(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if style_of(shapes) == "peft":
        read_peft_config(path.parent, str(path))
    return lora_layers(shapes, str(path))


def read_peft_config(folder: Path, where: str) -> dict[str, object]:
    """peft's settings of a LoRA, which are in a file beside its weights and say how strong it is.

    Raises:
        ValueError: if there is no such file, or it has no rank or alpha, or is of another method than LoRA.
    """
    file = folder / PEFT_CONFIG
    if not file.is_file():
        raise ValueError(
            f"{where} has peft's names, and {PEFT_CONFIG}, which says how strong it is (lora_alpha), is not beside it"
        )
    config = load_json_settings(file)
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{file}: peft_type is {config.get('peft_type')!r}, and only LORA is supported")
    for name in ("r", "lora_alpha"):
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise ValueError(f"{file}: {name} must be a number above 0, not {value!r}")
    return config


def style_of(keys: Iterable[str]) -> Style:
    """How the tensors of a LoRA are named."""
    keys = list(keys)
    if any(key.startswith(tuple(_KOHYA)) for key in keys):
        return "kohya"
    if any(key.startswith(PEFT_PREFIX) for key in keys):
        return "peft"
    return "diffusers" if any(key.startswith(tuple(f"{part}." for part in _PARTS)) for key in keys) else "bare"


def split_part(key: str) -> tuple[str, str]:
    """The part of the pipeline that a tensor of a LoRA is for, and the rest of its name."""
    for prefix, part in _KOHYA.items():
        if key.startswith(prefix):
            return part, key.removeprefix(prefix)
    key = key.removeprefix(PEFT_PREFIX)
    for part in _PARTS:
        if key.startswith(f"{part}."):
            return part, key.removeprefix(f"{part}.")
    return ("text_encoder" if key.startswith(("text_model.", "encoder.layers.")) else "unet"), key


def flat_name(layer: str) -> str:
    """A layer's name as kohya writes it, ``down_blocks_0_…``."""
    return layer.replace(".base_layer", "").replace(".", "_").removeprefix("text_model_")


def lora_layers(shapes: Mapping[str, Shape], where: str) -> list[LoraLayer]:
    """The layers that a LoRA changes.

    Args:
        shapes: name of a tensor -> its shape.
        where: the file, for messages.

    Raises:
        ValueError: if there is a tensor of another kind, none at all, or two factors that do not match.
    """
    downs: dict[str, tuple[str, Shape]] = {}
    ups: dict[str, Shape] = {}
    for key, shape in shapes.items():
        if any(word in key for word in _LYCORIS):
            raise ValueError(f"{where} is of LyCORIS or DoRA ({key}), and only plain LoRA is supported")
        if match := _DOWN.fullmatch(key):
            downs[match[1]] = key, shape
        elif match := _UP.fullmatch(key):
            ups[match[1]] = shape
        elif not _BESIDE.fullmatch(key):
            raise ValueError(f"{where} is no LoRA: its tensor {key} is neither lora_A, lora_B, lora_down nor lora_up")
    if not downs:
        raise ValueError(f"{where} is no LoRA: it has no tensor named lora_A or lora_down")
    layers = []
    for name, (key, down) in downs.items():
        up = ups.get(name, ())
        if len(up) < 2 or len(down) < 2 or up[1] != down[0]:
            raise ValueError(f"{where} is damaged: the two factors of {key} are of the shapes {down} and {up}")
        part, layer = split_part(name)
        layers.append(LoraLayer(key, part, flat_name(_layer_today(part, layer)), down, up))
    return layers


def today(key: str) -> str:
    """A tensor's name as peft and today's diffusers have it (``unet.….lora_A.weight``), from any but kohya's."""
    part, rest = split_part(key)
    for pattern, kind in ((_DOWN, "lora_A.weight"), (_UP, "lora_B.weight"), (_BESIDE, "")):
        if match := pattern.fullmatch(rest):
            return f"{part}.{_layer_today(part, match[1])}.{kind or rest.removeprefix(match[1] + '.')}"
    return f"{part}.{rest}"


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
        if each.layer.startswith(_SGM):  # its name in the model is known when the file is converted
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


def saved_layers(folder: Path, variant: str | None) -> dict[str, dict[str, Shape]]:
    """The layers of a saved pipeline that LoRAs may change, from the headers of its weight files.

    Args:
        folder: of the pipeline.
        variant: of its weight files.

    Raises:
        ValueError: if a header can't be read.
    """
    places = {part: [folder / part] for part in _PARTS}
    places["text_encoder"].append(folder / "bert")  # LDM's pipeline
    layers: dict[str, dict[str, Shape]] = {}
    for part, folders in places.items():
        shapes: dict[str, Shape] = {}
        for place in folders:
            for path in weight_files(place, variant):
                with open_safetensors(path) as file:
                    shapes |= {
                        name: tuple(file.get_slice(name).get_shape())
                        for name in file.keys()  # noqa: SIM118
                    }
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


def _layer_today(part: str, layer: str) -> str:
    """A layer's name from the oldest layout, in which LoRAs belonged to attention processors."""
    head, _, last = layer.replace(".processor", "").rpartition(".")
    last = _OLD_TEXT.get(last, last) if part != "unet" else "to_out.0" if last == "to_out" else last
    return f"{head}.{last}" if head else last


def _other_width(where: str, layer: LoraLayer, given: int, wanted: int) -> str:
    widths = f"takes {wanted} channels here, and {given} there"
    return f"{where} is a LoRA of another model than this one: {layer.layer} {widths}"
