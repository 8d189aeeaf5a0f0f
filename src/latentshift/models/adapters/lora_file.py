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
from typing import Any, Literal

from latentshift.files import missing_file
from latentshift.models.adapters.lora_settings import read_lora_settings
from latentshift.models.storage.model_config import ADAPTER_KEY
from latentshift.models.storage.other_models import foreign_lora
from latentshift.models.storage.safetensors_header import open_safetensors, refuse_pickle

Style = Literal["diffusers", "kohya", "peft", "bare"]
Shape = tuple[int, ...]

PEFT_PREFIX = "base_model.model."
_KOHYA = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
PARTS = ("unet", "text_encoder", "text_encoder_2")
# Layers of SDXL's U-Net in its original layout, which kohya's trainer keeps for SDXL alone.
SGM_LAYERS = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_")
_DOWN = re.compile(r"(.+?)(?:\.lora_A|\.lora\.down|\.lora_linear_layer\.down|\.lora_down|_lora\.down)\.weight")
_UP = re.compile(r"(.+?)(?:\.lora_B|\.lora\.up|\.lora_linear_layer\.up|\.lora_up|_lora\.up)\.weight")
_UP_BIAS = re.compile(r"(.+?)\.lora_B\.bias")
_ALPHA = re.compile(r"(.+?)(?:\.lora|_lora|\.lora_linear_layer)?\.alpha")
_OTHER_METHODS = ("hada_", "lokr_", "oft_", "dora_scale", "lora_magnitude_vector", ".diff", "glora")
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


def is_own_lora(path: Path) -> bool:
    """Whether latentshift made a file: its metadata says so, and the settings of the video model are in it.

    Raises:
        ValueError: if there is no such file, or it is a pickle or no safetensors file.
    """
    if not path.is_file():
        there = sorted(path.glob("*.safetensors"))
        raise ValueError(f"{missing_file(path)}{f': name the file in it, {there[0]}' if len(there) == 1 else ''}")
    refuse_pickle(path)
    with open_safetensors(path) as file:
        return ADAPTER_KEY in (file.metadata() or {})


def read_lora_layers(path: Path) -> list[LoraLayer]:
    """The layers that a file changes, from its header.

    Raises:
        ValueError: if it is no LoRA of a layout that is known, or is damaged.
    """
    shapes = tensor_shapes(path)
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
    layers = lora_layers(shapes, str(path))
    settings_of_parts(layers, shapes, metadata, path.parent, str(path))
    return layers


def read_own_layers(path: Path) -> list[LoraLayer]:
    """The layers that a LoRA of latentshift changes, from its header; temporal layers that are in it too are left out.

    Raises:
        ValueError: if it is damaged.
    """
    return lora_layers(
        {name: shape for name, shape in tensor_shapes(path).items() if not name.startswith("temporal.")}, str(path)
    )


def settings_of_parts(
    layers: Iterable[LoraLayer], keys: Iterable[str], metadata: Mapping[str, str], folder: Path | None, where: str
) -> dict[str, dict[str, Any]] | None:
    """peft's settings of each part that a LoRA changes; None if it has none.

    Args:
        layers: of the LoRA.
        keys: names of its tensors.
        metadata: of its safetensors file.
        folder: of the file; None for tensors in memory.
        where: the file, for messages.

    Raises:
        ValueError: as :func:`latentshift.models.adapters.lora_settings.read_lora_settings`, or if it has alphas
            besides, or layers of a rank that is not in its settings.
    """
    keys = list(keys)
    parts = {split_part(key)[0] for key in keys}
    settings = read_lora_settings(style_of(keys), parts, metadata, folder, where)
    alphas = [key for key in keys if key.endswith(".alpha")]
    if alphas and settings is not None:
        raise ValueError(f"{where} says twice how strong it is: by its tensor {alphas[0]}, and by its settings")
    if settings is None:
        return None
    for each in layers:
        own = settings[each.part]
        ranks = {own["r"], *own.get("rank_pattern", {}).values()}
        if each.down[0] not in ranks:
            said = " or ".join(map(str, sorted(ranks)))
            raise ValueError(f"{where} is of rank {said} by its settings, and its tensor {each.key} of {each.down[0]}")
    return settings


def style_of(keys: Iterable[str]) -> Style:
    """How the tensors of a LoRA are named."""
    keys = list(keys)
    if any(key.startswith(tuple(_KOHYA)) for key in keys):
        return "kohya"
    if any(key.startswith(PEFT_PREFIX) for key in keys):
        return "peft"
    return "diffusers" if any(key.startswith(tuple(f"{part}." for part in PARTS)) for key in keys) else "bare"


def split_part(key: str) -> tuple[str, str]:
    """The part of the pipeline that a tensor of a LoRA is for, and the rest of its name."""
    for prefix, part in _KOHYA.items():
        if key.startswith(prefix):
            return part, key.removeprefix(prefix)
    key = key.removeprefix(PEFT_PREFIX)
    for part in PARTS:
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
        ValueError: if it is of another kind of model, or there is a tensor of another kind, none at all, or two factors
            that do not match.
    """
    if (other := foreign_lora(shapes)) is not None:
        raise ValueError(
            f"{where} is a LoRA {other}, whose layers these models do not have: use it with diffusers on its own base, "
            "or choose one of SD 1.x, SD 2.x, SDXL or LDM"
        )
    downs: dict[str, tuple[str, Shape]] = {}
    ups: dict[str, Shape] = {}
    for key, shape in shapes.items():
        if any(word in key for word in _OTHER_METHODS):
            raise ValueError(f"{where} is of LyCORIS or DoRA ({key}), and only plain LoRA is supported")
        if match := _DOWN.fullmatch(key):
            downs[match[1]] = key, shape
        elif match := _UP.fullmatch(key):
            ups[match[1]] = shape
        elif not (_UP_BIAS.fullmatch(key) or _ALPHA.fullmatch(key)):
            raise ValueError(f"{where} is no LoRA: its tensor {key} is neither lora_A, lora_B, lora_down nor lora_up")
    if not downs:
        raise ValueError(f"{where} is no LoRA: it has no tensor named lora_A or lora_down")
    for key in alpha_factors(shapes, where):
        if math.prod(shapes[key]) != 1:
            raise ValueError(f"{where} is damaged: its tensor {key} must be one number, not of shape {shapes[key]}")
    layers = []
    for name, (key, down) in downs.items():
        up = ups.get(name, ())
        if len(up) < 2 or len(down) < 2 or up[1] != down[0]:
            raise ValueError(f"{where} is damaged: the two factors of {key} are of the shapes {down} and {up}")
        part, layer = split_part(name)
        layers.append(LoraLayer(key, part, flat_name(_to_diffusers_layer(part, layer)), down, up))
    return layers


def alpha_factors(keys: Iterable[str], where: str) -> dict[str, list[str]]:
    """The tensors that each alpha of a LoRA scales: the second factor of its layer, and that one's bias.

    Args:
        keys: names of the LoRA's tensors.
        where: the file, for messages.

    Raises:
        ValueError: if an alpha has no such factor.
    """
    keys = list(keys)
    scaled: dict[str, list[str]] = {}
    for pattern in (_UP, _UP_BIAS):
        for key in keys:
            if match := pattern.fullmatch(key):
                scaled.setdefault(match[1], []).append(key)
    factors = {}
    for key in keys:
        if match := _ALPHA.fullmatch(key):
            if match[1] not in scaled:
                raise ValueError(f"{where} is damaged: there are no factors that its tensor {key} is for")
            factors[key] = scaled[match[1]]
    return factors


def to_diffusers_key(key: str) -> str:
    """A tensor's name as peft and today's diffusers have it (``unet.….lora_A.weight``), from any but kohya's."""
    part, rest = split_part(key)
    for pattern, kind in ((_DOWN, "lora_A.weight"), (_UP, "lora_B.weight"), (_UP_BIAS, "lora_B.bias")):
        if match := pattern.fullmatch(rest):
            return f"{part}.{_to_diffusers_layer(part, match[1])}.{kind}"
    return f"{part}.{rest}"


def tensor_shapes(path: Path) -> dict[str, Shape]:
    """The shapes of a file's tensors, from its header."""
    with open_safetensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _to_diffusers_layer(part: str, layer: str) -> str:
    """A layer's name from the oldest layout, in which LoRAs belonged to attention processors."""
    head, _, last = layer.replace(".processor", "").rpartition(".")
    last = _OLD_TEXT.get(last, last) if part != "unet" else "to_out.0" if last == "to_out" else last
    return f"{head}.{last}" if head else last
