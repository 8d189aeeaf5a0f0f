"""Checkpoint files of the code that image models were first published with: from one file to the parts of a pipeline.

The U-Net, the autoencoder and CLIP go through diffusers' own converters, LDM's BERT through a mapping of names that
stands here. Every tensor of the file is used once, is known to be of no use, or is complained of.

Knows no pipelines of ours; weights are read from safetensors, and from a pickle only where that is asked for.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    SD_2_TEXT_ENCODER_KEYS_TO_IGNORE,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from latentshift.diffusion.noise import paper_scheduler
from latentshift.error_text import one_line
from latentshift.models.families import FAMILIES, Family, OriginalText, unet_config, vae_config
from latentshift.models.text import check_vocabulary

_UNET = "model.diffusion_model."
_AVERAGE = "model_ema."
_VAE = "first_stage_model."
# The noise schedule's own numbers, and what only training needs.
_OF_THE_SCHEDULE = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
    "scale_factor",
    "denoiser.sigmas",
}
# Classes in .ckpt files: of the checkpoint's callbacks, of the configuration, of a score.
_OF_THE_TRAINER = ("pytorch_lightning.", "lightning.", "omegaconf.", "numpy.", "typing.")
_HARMLESS: dict[str, Any] = {f"builtins.{each.__name__}": each for each in (dict, list, tuple, int, float, str, bool)}
_HARMLESS["collections.defaultdict"] = lambda *arguments: {}  # torch fills plain ones alone
_UNUSED_PREFIXES = ("first_stage_model.loss.", "model_ema.decay", "model_ema.num_updates")
# Of CLIP: numbers 0 … 76, the temperature of its training, and an attention mask.
_UNUSED_SUFFIXES = (".embeddings.position_ids", ".logit_scale", ".attn_mask")


def read_tensors(path: Path, *, pickled: bool = False) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, on the CPU.

    Args:
        path: a ``.safetensors`` file, or another one that torch has written.
        pickled: whether a file that torch has written may be opened. Nothing but tensors is taken from it
            (``weights_only``).

    Raises:
        ValueError: for a file that cannot be read, or a pickle that was not asked for.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is no safetensors file that can be read: {error}") from None
    if not pickled:
        raise ValueError(
            f"{path} is a pickle, which can hold programs: latentshift convert {path} -o DIR opens it safely"
        )
    try:
        with torch.serialization.safe_globals(_stand_ins(path)):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or malicious file makes torch raise
        if not isinstance(error, pickle.UnpicklingError):
            reason = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path} is damaged or no checkpoint: {reason}") from None
        raise ValueError(  # torch's words advise to open it in a way that runs what it holds
            f"{path} can't be opened as tensors alone: it is damaged, or holds a program, which is never run"
        ) from None
    tensors = contents.get("state_dict", contents) if isinstance(contents, dict) else {}
    found = {str(name): value for name, value in tensors.items() if torch.is_tensor(value)}
    if not found:
        raise ValueError(f"{path} holds no tensors by name")
    return found


def find_original_family(names: Collection[str], wanted: str | None = None) -> str:
    """Which family a file's tensors are of.

    Args:
        names: of all tensors.
        wanted: the family that the user says; needed where the tensors alone do not tell.

    Raises:
        ValueError: for a file of no known family, or of several, or not of the one that is wanted.
    """
    if wanted is not None and wanted not in FAMILIES:
        raise ValueError(f"no family is called {wanted!r}; there are {', '.join(FAMILIES)}")
    fitting = [name for name, family in FAMILIES.items() if all(_has(names, text) for text in family.original)]
    if not fitting or not any(each.startswith(_UNET) for each in names):
        raise ValueError(
            f"these are not the tensors of the whole of an image model that is known ({', '.join(FAMILIES)}): they "
            f"begin with {min(names, default='nothing')}"
        )
    if wanted is None and len(fitting) > 1:
        raise ValueError(f"the tensors alone do not tell {' from '.join(fitting)}; say which with family")
    if wanted is not None and wanted not in fitting:
        raise ValueError(f"these are the tensors of {' or '.join(fitting)}, not of {wanted}")
    return wanted or fitting[0]


def convert_tensors(tensors: dict[str, Tensor], family: Family, *, average: bool = True) -> dict[str, nn.Module]:
    """The parts that hold weights, by our names, of an original checkpoint's tensors.

    Args:
        tensors: by their original names; it is empty afterwards.
        family: what they are.
        average: take the U-Net's averaged weights where the file has them, and not the others.

    Raises:
        ValueError: if a tensor is missing, has another shape, or is left over.
    """
    for name in [name for name in tensors if _is_unused(name)]:
        del tensors[name]
    unet = UNet2DConditionModel(**unet_config(family))
    source = _take_unet(tensors, average=average)
    _fill(unet, source, convert_ldm_unet_checkpoint(dict(source), unet.config), "U-Net")
    vae = AutoencoderKL(**vae_config(family))
    source = _take(tensors, _VAE)
    _fill(vae, source, convert_ldm_vae_checkpoint(dict(source), vae.config), "autoencoder")
    parts: dict[str, nn.Module] = {"unet": unet, "vae": vae}
    for suffix, text, model in zip(("", "_2"), family.original, family.text_encoders, strict=False):
        encoder = model.build()
        source = _take(tensors, text.root)
        _fill(encoder, source, _CONVERT_TEXT[text.layout](encoder, source, text.root), "text encoder")
        parts[f"text_encoder{suffix}"] = encoder
    if tensors:
        raise ValueError(
            f"{len(tensors)} tensors belong to no part of the model that is known, {min(tensors)} among them"
        )
    return parts


def load_original_checkpoint(
    path: Path,
    family: str | None = None,
    tokenizer: str | None = None,
    *,
    average: bool = True,
    pickled: bool = False,
) -> dict[str, Any]:
    """All parts of a pipeline, by our names, from one checkpoint file.

    Args:
        path: the file.
        family: needed where the tensors alone do not tell SD 2's two from each other.
        tokenizer: folder or hub id of it, for files do not hold one; None: the family's own on the hub.
        average: take the U-Net's averaged weights where the file has them.
        pickled: whether it may be a pickle; see :func:`read_tensors`.

    Raises:
        ValueError: for a file that cannot be read or is of no known family, or a tokenizer that cannot be had.
    """
    tensors = read_tensors(path, pickled=pickled)
    try:
        name = find_original_family(tensors, family)
        tokenizers = [_load_tokenizer(text, tokenizer) for text in FAMILIES[name].original]
        parts: dict[str, Any] = dict(convert_tensors(tensors, FAMILIES[name], average=average))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    parts |= {f"tokenizer{suffix}": each for suffix, each in zip(("", "_2"), tokenizers, strict=False)}
    return {**parts, "scheduler": paper_scheduler(FAMILIES[name].prediction_type), **FAMILIES[name].settings}


class _StandIn:
    """In the place of a class of the program that trained the model: takes anything and does nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _stand_ins(path: Path) -> list[Any]:
    """For what the training programs of such models left in their files beside tensors, as torch wants it."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # whatever a damaged file makes torch raise; opening it will say
        return []
    stand_ins = [(type("StandIn", (_StandIn,), {}), name) for name in found if name.startswith(_OF_THE_TRAINER)]
    return stand_ins + [(_HARMLESS[name], name) for name in found if name in _HARMLESS]


def _has(names: Collection[str], text: OriginalText) -> bool:
    return any(each.startswith(text.root + text.mark) for each in names)


def _is_unused(name: str) -> bool:
    return (
        name in _OF_THE_SCHEDULE
        or name in SD_2_TEXT_ENCODER_KEYS_TO_IGNORE
        or name.startswith(_UNUSED_PREFIXES)
        or name.endswith(_UNUSED_SUFFIXES)
    )


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _take_unet(tensors: dict[str, Tensor], *, average: bool) -> dict[str, Tensor]:
    """The U-Net's tensors; their averages, whose names have lost their dots, go or come in their place."""
    plain, averages = _take(tensors, _UNET), _take(tensors, _AVERAGE)
    if not averages or not average:
        return plain
    names = {name: _AVERAGE + "".join(name.split(".")[1:]) for name in plain}
    if missing := sorted(set(names.values()) - set(averages)):
        raise ValueError(f"the averaged weights are not whole: {missing[0]} is missing; average=False takes the others")
    return {name: averages[flat] for name, flat in names.items()}


def _fill(module: nn.Module, source: Mapping[str, Tensor], converted: Mapping[str, Tensor], what: str) -> None:
    """Load a converted state dict that has every number of its source, and every tensor that the module wants."""
    wanted = {_plain(name): name for name in module.state_dict()}
    given = {_plain(name): value for name, value in converted.items()}
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if missing := sorted(set(wanted) - set(given)):
        raise ValueError(f"the {what} is not whole: {missing[0]} is missing")
    for name, value in given.items():
        if name not in wanted:
            raise ValueError(f"the {what} of this family has no {name}")
        if tuple(value.shape) != shapes[wanted[name]]:
            raise ValueError(f"the {what} has {name} of {tuple(value.shape)}, and should of {shapes[wanted[name]]}")
    if sum(each.numel() for each in source.values()) != sum(each.numel() for each in given.values()):
        raise ValueError(f"the {what} has tensors that are not used: the file is of another model than its names tell")
    module.load_state_dict({wanted[name]: value for name, value in given.items()}, assign=False)


def _plain(name: str) -> str:
    return name.removeprefix("text_model.")  # libraries do not agree on whether a CLIP text model says so


def _from_clip(encoder: nn.Module, source: Mapping[str, Tensor], root: str) -> dict[str, Tensor]:
    return {name.removeprefix(root): value for name, value in source.items()}


def _from_open_clip(encoder: nn.Module, source: Mapping[str, Tensor], root: str) -> dict[str, Tensor]:
    converted: dict[str, Tensor] = convert_open_clip_checkpoint(encoder, dict(source), prefix=root)
    return converted


def _from_x_transformers(encoder: nn.Module, source: Mapping[str, Tensor], root: str) -> dict[str, Tensor]:
    """LDM's BERT: layers 0, 2, 4, … of the original are attention, the others feed-forward, each after a norm."""
    plain = {
        "token_emb": "model.embed_tokens",
        "pos_emb.emb": "model.embed_positions",
        "norm": "model.layer_norm",
        "to_logits": "to_logits",
    }
    attention = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
    converted = {}
    for name, value in source.items():
        place, _, kind = name.removeprefix(root).rpartition(".")
        if place.startswith("attn_layers.layers."):
            number, _, part = place.removeprefix("attn_layers.layers.").partition(".")
            of_attention = int(number) % 2 == 0
            if part == "0":
                ours = "self_attn_layer_norm" if of_attention else "final_layer_norm"
            elif of_attention:
                ours = f"self_attn.{attention.get(part.removeprefix('1.'), part)}"
            else:
                ours = {"1.net.0.0": "fc1", "1.net.2": "fc2"}.get(part, part)
            place = f"model.layers.{int(number) // 2}.{ours}"
        else:
            place = plain.get(place, place)
        converted[f"{place}.{kind}"] = value
    return converted


_CONVERT_TEXT: dict[str, Callable[[nn.Module, Mapping[str, Tensor], str], dict[str, Tensor]]] = {
    "x-transformers": _from_x_transformers,
    "clip": _from_clip,
    "open-clip": _from_open_clip,
}


def _load_tokenizer(text: OriginalText, chosen: str | None) -> PreTrainedTokenizerBase:
    where = chosen or text.tokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, model_max_length=77)
    except Exception as error:  # whatever a folder, or the hub, makes the library raise
        reason = one_line(error)[:200]
        raise ValueError(
            f"such a file holds no tokenizer, and {where} could not be had; say with tokenizer where one is ({reason})"
        ) from None
    check_vocabulary(tokenizer, where)
    if text.pad is not None:
        tokenizer.pad_token = text.pad
    return tokenizer
