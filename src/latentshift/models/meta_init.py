"""A saved pipeline's parts as their configurations describe them: no weights are read, or fetched from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentshift.models.families import OUR_PARTS, OUR_SETTINGS, check_settings, find_family
from latentshift.models.latent_vdm import TemporalAttention

_ELSEWHERE = {each.__name__: each for each in (LDMBertModel, TemporalAttention)}


def meta_components(path: str) -> dict[str, Any]:
    """What ``LatentShiftPipeline(**…)`` takes: parts without memory, on torch's meta device, and settings.

    Args:
        path: a folder or hub id, of a pipeline of ours or a stock image pipeline.

    Raises:
        ValueError: for a folder without a pipeline, a pipeline of a kind that is not known, or a setting that is not
            honoured.
        OSError: if the configuration of a part can't be read.
    """
    family = find_family(path)
    index = DiffusionPipeline.load_config(path)
    if Path(path).is_dir():
        check_settings(Path(path), family)
    names = {name: name for name in OUR_PARTS} if family is None else family.parts
    found = {
        name: index[name] for name in OUR_SETTINGS if name in index and (family is None or name in family.settings)
    }
    for ours, theirs in names.items():
        _, kind = index.get(theirs) or (None, None)
        if kind is None:
            continue
        found[ours] = meta_part(path, theirs, kind)
    return found


def meta_part(path: str, name: str, kind: str) -> Any:
    """One part as its configuration describes it, on torch's meta device; a scheduler or tokenizer as it is.

    Args:
        path: a folder or hub id.
        name: of the part in it.
        kind: its class.
    """
    described = _ELSEWHERE.get(kind) or getattr(diffusers, kind, None) or getattr(transformers, kind)
    if issubclass(described, SchedulerMixin | PreTrainedTokenizerBase):
        return described.from_pretrained(path, subfolder=name)
    if issubclass(described, PreTrainedModel):
        config = described.config_class.from_pretrained(path, subfolder=name)
        with torch.device("meta"):
            return described(config)
    config = described.load_config(path, subfolder=name)
    with torch.device("meta"):
        return described.from_config(config)
