"""Convert single-file checkpoints in the original (LDM / Stable Diffusion) layout to the components of a pipeline.

The U-Net, the autoencoder and CLIP are converted by diffusers, LDM's BERT by the key mapping below. Every tensor of the
file is used once, is known to be unused, or is an error.

Weights are read from safetensors, and from a pickle only if that is requested.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
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
from latentshift.files import missing_file
from latentshift.models.conditioning.text import check_vocabulary
from latentshift.models.storage.families import FAMILIES, Family, unet_config, vae_config
from latentshift.models.storage.original_layout import UNET_PREFIX, OriginalText, find_original_family
from latentshift.user_input.error_text import one_line

_AVERAGE = "model_ema."
_VAE = "first_stage_model."
# Buffers of the noise schedule, and training state.
_SCHEDULE_KEYS = {
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
# Classes in .ckpt files: of callbacks, configurations and metrics.
_TRAINER_MODULES = ("pytorch_lightning.", "lightning.", "omegaconf.", "numpy.", "typing.")
_SAFE_BUILTINS: dict[str, Any] = {
    f"builtins.{each.__name__}": each for each in (dict, list, tuple, int, float, str, bool)
}
_SAFE_BUILTINS["collections.defaultdict"] = lambda *arguments: {}  # torch unpickles plain dicts only
_UNUSED_PREFIXES = ("first_stage_model.loss.", "model_ema.decay", "model_ema.num_updates")
# Of CLIP: position ids, the temperature of its training, and an attention mask.
_UNUSED_SUFFIXES = (".embeddings.position_ids", ".logit_scale", ".attn_mask")


def read_tensors(path: Path, *, pickled: bool = False) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, on the CPU.

    Args:
        path: a ``.safetensors`` file, or a torch checkpoint.
        pickled: whether a torch checkpoint may be opened. Only tensors are loaded from it (``weights_only``).

    Raises:
        ValueError: if the file can't be read, or is a pickle without ``pickled``.
    """
    if not path.is_file():
        raise ValueError(missing_file(path))
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} can't be read as safetensors: {error}") from None
    if not pickled:
        raise ValueError(
            f"{path} is a pickle, which can hold programs: latentshift convert {path} -o DIR opens it safely"
        )
    try:
        with torch.serialization.safe_globals(_safe_globals(path)):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or malicious file makes torch raise
        if not isinstance(error, pickle.UnpicklingError):
            reason = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path} is damaged or no checkpoint: {reason}") from None
        raise ValueError(  # torch's message advises to open it in an unsafe way
            f"{path} can't be opened as tensors alone: it is damaged, or holds a program, which is never run"
        ) from None
    tensors = contents.get("state_dict", contents) if isinstance(contents, dict) else {}
    named = {str(name): value for name, value in tensors.items() if torch.is_tensor(value)}
    if not named:
        raise ValueError(f"{path} holds no tensors by name")
    return named


def convert_tensors(tensors: dict[str, Tensor], family: Family, *, average: bool = True) -> dict[str, nn.Module]:
    """Convert the tensors of an original checkpoint to models, by component name.

    Args:
        tensors: by original name; emptied by this function.
        family: of the checkpoint.
        average: use the U-Net's averaged (EMA) weights if the file has them.

    Raises:
        ValueError: if a tensor is missing, unused, or has a wrong shape.
    """
    for name in [name for name in tensors if _is_unused(name)]:
        del tensors[name]
    unet = UNet2DConditionModel(**unet_config(family))
    source = _pop_unet(tensors, average=average)
    _load_converted(unet, source, convert_ldm_unet_checkpoint(dict(source), unet.config), "U-Net")
    vae = AutoencoderKL(**vae_config(family))
    source = _pop_prefix(tensors, _VAE)
    _load_converted(vae, source, convert_ldm_vae_checkpoint(dict(source), vae.config), "autoencoder")
    parts: dict[str, nn.Module] = {"unet": unet, "vae": vae}
    for suffix, text, model in zip(("", "_2"), family.original, family.text_encoders, strict=False):
        encoder = model.build()
        source = _pop_prefix(tensors, text.root)
        _load_converted(encoder, source, _CONVERT_TEXT[text.layout](encoder, source, text.root), "text encoder")
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
    """Load all components of a pipeline from one checkpoint file.

    Args:
        path: the file.
        family: needed to distinguish ``sd2`` and ``sd2-base``, whose tensors are alike.
        tokenizer: folder or hub id, since the file has none; None: the family's on the hub.
        average: use the U-Net's averaged (EMA) weights if the file has them.
        pickled: whether it may be a pickle; see :func:`read_tensors`.

    Raises:
        ValueError: if the file can't be read or is of no known family, or the tokenizer can't be loaded.
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


class _Stub:
    """Replaces pickled classes of the training program: accepts anything and does nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _safe_globals(path: Path) -> list[Any]:
    """Replacements for classes that training programs pickled into checkpoints, for torch's ``safe_globals``."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a damaged file; opening it gives the error
        return []
    stubs = [(type("Stub", (_Stub,), {}), name) for name in names if name.startswith(_TRAINER_MODULES)]
    return stubs + [(_SAFE_BUILTINS[name], name) for name in names if name in _SAFE_BUILTINS]


def _is_unused(name: str) -> bool:
    return (
        name in _SCHEDULE_KEYS
        or name in SD_2_TEXT_ENCODER_KEYS_TO_IGNORE
        or name.startswith(_UNUSED_PREFIXES)
        or name.endswith(_UNUSED_SUFFIXES)
    )


def _pop_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _pop_unet(tensors: dict[str, Tensor], *, average: bool) -> dict[str, Tensor]:
    """The U-Net's tensors, or their averages, whose names are stored without dots."""
    plain, averages = _pop_prefix(tensors, UNET_PREFIX), _pop_prefix(tensors, _AVERAGE)
    if not averages or not average:
        return plain
    names = {name: _AVERAGE + "".join(name.split(".")[1:]) for name in plain}
    if missing := sorted(set(names.values()) - set(averages)):
        raise ValueError(f"the averaged weights are incomplete: {missing[0]} is missing; average=False uses the others")
    return {name: averages[flat] for name, flat in names.items()}


def _load_converted(
    module: nn.Module, source: Mapping[str, Tensor], converted: Mapping[str, Tensor], what: str
) -> None:
    """Load a converted state dict, checking that no source tensor is unused and no target tensor missing."""
    wanted = {_strip_prefix(name): name for name in module.state_dict()}
    given = {_strip_prefix(name): value for name, value in converted.items()}
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if missing := sorted(set(wanted) - set(given)):
        raise ValueError(f"the {what} is incomplete: {missing[0]} is missing")
    for name, value in given.items():
        if name not in wanted:
            raise ValueError(f"the {what} of this family has no {name}")
        if tuple(value.shape) != shapes[wanted[name]]:
            raise ValueError(f"the {what} has {name} of {tuple(value.shape)} instead of {shapes[wanted[name]]}")
    if sum(each.numel() for each in source.values()) != sum(each.numel() for each in given.values()):
        raise ValueError(f"the {what} has unused tensors: the file is of another model than its names suggest")
    module.load_state_dict({wanted[name]: value for name, value in given.items()}, assign=False)


def _strip_prefix(name: str) -> str:
    return name.removeprefix("text_model.")  # some versions of CLIP's state dict have this prefix


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
            f"the file has no tokenizer, and {where} can't be loaded; give one with tokenizer ({reason})"
        ) from None
    check_vocabulary(tokenizer, where)
    if text.pad is not None:
        tokenizer.pad_token = text.pad
    return tokenizer
