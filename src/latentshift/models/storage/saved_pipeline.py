"""Saved pipelines, of latentshift and stock image pipelines: their family, and checks of their settings and weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase

from latentshift.models.conditioning.text import check_vocabulary
from latentshift.models.storage.base_settings import check_folder
from latentshift.models.storage.families import FAMILIES, Family
from latentshift.models.storage.model_config import check_config_files
from latentshift.models.storage.model_paths import class_name, load_index
from latentshift.models.storage.other_models import foreign_pipeline
from latentshift.models.storage.weight_files import weight_files

# Of a saved latentshift pipeline.
OUR_PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "temporal", "scheduler")
OUR_SETTINGS = (
    *("shift", "num_frames", "fps", "guidance_scale", "num_inference_steps", "noise_share"),
    "force_zeros_for_empty_prompt",
)

_HUB_OPTIONS = ("cache_dir", "revision", "token", "local_files_only", "force_download", "proxies")
# Names in the files of older libraries, which today's still read: SD 1.x and 2.x were saved with them.
_CLIP_PREFIX = "text_model."
_FORMER_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def find_family(path: str, **kwargs: Any) -> Family | None:
    """The family of the stock image pipeline in a folder or on the hub; None for a latentshift pipeline.

    Raises:
        ValueError: for a folder without a pipeline, a pipeline of a kind that is not known, or a wrong value in a
            configuration file.
    """
    local = Path(path).is_dir()
    if local:
        index = load_index(Path(path))
        name = index["_class_name"]
    else:
        passed_on = {key: value for key, value in kwargs.items() if key in _HUB_OPTIONS}
        try:
            index = dict(DiffusionPipeline.load_config(path, **passed_on))
            name = index["_class_name"] = class_name(index)
        except (OSError, KeyError) as error:
            cause = _hub_error(error)
            raise ValueError(
                f"there is no folder {path}, and no model of that name could be downloaded from the hub: {cause}"
            ) from error
    if local and name in ("LatentShiftPipeline", *(family.pipeline for family in FAMILIES.values())):
        check_config_files(Path(path))
    if name == "LatentShiftPipeline":
        return None
    for family in FAMILIES.values():  # SD 1 and both of SD 2 share a class, and all that loading asks of their entries
        if family.pipeline == name:
            return family
    raise ValueError(foreign_pipeline(path, index))


def _hub_error(error: BaseException) -> str:
    """Why a model could not be downloaded; the library reports a missing file in all cases."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError):
            return "it can't be reached from here, and the model was not downloaded before"
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def check_settings(folder: Path, family: Family | None, given: Collection[str] = ()) -> None:
    """Refuse a saved pipeline with an unsupported setting, before loading weights.

    Args:
        folder: of it.
        family: of a stock image pipeline; None for a pipeline of ours.
        given: parts, by its own names, that are not taken from the folder.

    Raises:
        ValueError: that names the file, the setting, its value and what is supported.
    """
    index = load_index(folder)
    parts = {name: name for name in OUR_PARTS} if family is None else family.parts
    of_adapters = ("image_encoder", "feature_extractor")
    known = (*OUR_SETTINGS, *of_adapters) if family is None else (*family.absent, *family.settings)
    check_folder(folder, parts, index, known, given)


def check_parts(folder: Path, parts: dict[str, Any], variant: str | None = None) -> None:
    """Refuse a folder with missing weights or files, which the libraries would replace by random or empty ones.

    Args:
        folder: of a saved pipeline.
        parts: subfolder -> the module or tokenizer that was loaded from it.
        variant: of the weight files.

    Raises:
        ValueError: naming the first tensor that is missing, or the tokenizer that knows no words.
    """
    for name, part in parts.items():
        if isinstance(part, PreTrainedTokenizerBase):
            check_vocabulary(part, folder / name)
            continue
        stored: set[str] = set()
        for file in weight_files(folder / name, variant):
            with safe_open(file, framework="pt") as tensors:
                stored |= {_name_today(key) for key in tensors.keys()}  # noqa: SIM118
        wanted = {_name_today(key) for key, _ in part.named_parameters()}
        if missing := sorted(wanted - stored):
            raise ValueError(f"the weights in {folder / name} are incomplete: {missing[0]} is missing")


def _name_today(key: str) -> str:
    layer, _, kind = key.removeprefix(_CLIP_PREFIX).rpartition(".")
    block, _, last = layer.rpartition(".")
    return f"{block}.{_FORMER_ATTENTION[last]}.{kind}" if last in _FORMER_ATTENTION else f"{layer}.{kind}"
