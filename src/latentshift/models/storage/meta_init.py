"""The components of a saved pipeline on the meta device, from configurations alone: no weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentshift.models.latent_vdm import TemporalAttention
from latentshift.models.storage.saved_pipeline import OUR_PARTS, OUR_SETTINGS, check_settings, find_family

_OTHER_CLASSES = {each.__name__: each for each in (LDMBertModel, TemporalAttention)}


def meta_components(path: str) -> dict[str, Any]:
    """Arguments for ``LatentShiftPipeline(**…)``: components on torch's meta device, and settings.

    Args:
        path: folder or hub id of a latentshift pipeline or a stock image pipeline.

    Raises:
        ValueError: if there is no pipeline, or for an unknown kind of pipeline or an unsupported setting.
        OSError: if a configuration can't be read.
    """
    family = find_family(path)
    index = DiffusionPipeline.load_config(path)
    if Path(path).is_dir():
        check_settings(Path(path), family)
    names = {name: name for name in OUR_PARTS} if family is None else family.parts
    components = {
        name: index[name] for name in OUR_SETTINGS if name in index and (family is None or name in family.settings)
    }
    for ours, theirs in names.items():
        _, kind = index.get(theirs) or (None, None)
        if kind is None:
            continue
        components[ours] = meta_part(path, theirs, kind)
    scheduler = components["scheduler"]
    if family is not None and family.pipeline == "StableDiffusionPipeline" and scheduler.config.get("clip_sample"):
        scheduler.register_to_config(clip_sample=False)  # as the class itself does where old files do not say it
    return components


def meta_part(path: str, name: str, kind: str) -> Any:
    """One component on torch's meta device; schedulers and tokenizers are loaded as usual.

    Args:
        path: a folder or hub id.
        name: subfolder of the component.
        kind: its class name.
    """
    component_class = _OTHER_CLASSES.get(kind) or getattr(diffusers, kind, None) or getattr(transformers, kind)
    if issubclass(component_class, SchedulerMixin | PreTrainedTokenizerBase):
        return component_class.from_pretrained(path, subfolder=name)
    if issubclass(component_class, PreTrainedModel):
        config = component_class.config_class.from_pretrained(path, subfolder=name)
        with torch.device("meta"):
            return component_class(config)
    config = component_class.load_config(path, subfolder=name)
    with torch.device("meta"):
        return component_class.from_config(config)
