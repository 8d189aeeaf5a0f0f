"""Load a saved pipeline, of latentshift or a stock image pipeline: checks before and after, and explained failures.

Pipeline classes are arguments here, since :mod:`latentshift.pipeline` imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline
from torch import nn

from latentshift.diffusion.samplers import paper_sampler
from latentshift.models.storage.explain_failure import explain_failure
from latentshift.models.storage.families import Family
from latentshift.models.storage.model_config import check_config_files
from latentshift.models.storage.saved_pipeline import check_parts, check_settings, find_family
from latentshift.models.storage.weight_files import check_variant, has_variant
from latentshift.user_input.error_text import one_line

_COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "temporal")

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def loading_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """diffusers' keywords with our defaults: safetensors only, and float32 whatever the components were saved in."""
    filled = {"use_safetensors": True, **options}
    if "dtype" not in filled:
        filled["dtype"] = filled.pop("torch_dtype", torch.float32)
    return filled


@dataclass(frozen=True)
class SavedPipeline:
    """A saved pipeline on this machine, with settings that are supported.

    Attributes:
        folder: of the pipeline.
        family: of a stock image pipeline; None for a latentshift pipeline.
        subfolders: of the components with weights or a vocabulary that are loaded from the folder.
        variant: of the weight files.
    """

    folder: Path
    family: Family | None
    subfolders: tuple[str, ...]
    variant: str | None

    def load(self, from_pretrained: Callable[..., Pipeline], options: Mapping[str, Any]) -> Pipeline:
        """Load the pipeline.

        Args:
            from_pretrained: of the pipeline's class.
            options: its keywords.

        Raises:
            ValueError: for a component that does not fit its configuration, or missing weights or tokenizer files.
        """
        with _explained(self.folder, (*self.subfolders, "scheduler"), self.variant):
            pipeline = from_pretrained(self.folder, **options)
        parts = {name: getattr(pipeline, name) for name in self.subfolders}
        check_parts(self.folder, {name: part for name, part in parts.items() if part is not None}, self.variant)
        return pipeline


def find_saved_pipeline(
    path: str, pipeline_class: type[DiffusionPipeline], options: Mapping[str, Any]
) -> SavedPipeline:
    """Find a pipeline, download it from the hub if it is not a folder, and check its configuration.

    Args:
        path: a folder, or the hub id of one.
        pipeline_class: of latentshift pipelines.
        options: from :func:`loading_options`; also components that replace saved ones.

    Raises:
        ValueError: if there is no pipeline, or for an unknown family, an unsupported setting or a missing variant.
    """
    family = find_family(path, **options)
    loader = pipeline_class if family is None else DiffusionPipeline
    folder = Path(path) if Path(path).is_dir() else Path(loader.download(path, **options))
    check_config_files(folder)
    check_settings(folder, family, given=options)
    subfolder_of = {name: name for name in _COMPONENTS} if family is None else family.parts
    subfolders = tuple(subfolder_of[name] for name in _COMPONENTS if name in subfolder_of)
    subfolders = tuple(name for name in subfolders if name not in options)
    variant = options.get("variant")
    check_variant(folder, subfolders, variant)
    return SavedPipeline(folder, family, subfolders, variant)


def load_image_components(saved: SavedPipeline, family: Family, options: Mapping[str, Any]) -> dict[str, Any]:
    """Load the components of a stock image pipeline, by our names, and the settings that ours keeps.

    The sampler is the paper's DDPM on the base's schedule, unless ``scheduler`` is among the options or the base needs
    its own (EDM, flow matching, consistency models).

    Args:
        saved: the pipeline.
        family: of it.
        options: keywords of diffusers' ``from_pretrained``.

    Raises:
        ValueError: as for :meth:`SavedPipeline.load`.
    """
    not_loaded = dict.fromkeys(family.absent)
    stock = saved.load(DiffusionPipeline.from_pretrained, {**not_loaded, **options})
    parts = {ours: getattr(stock, theirs) for ours, theirs in family.parts.items()}
    parts |= {name: stock.config[name] for name in family.settings}
    if "scheduler" not in options:
        parts["scheduler"] = paper_sampler(parts["scheduler"])
    return parts


def load_part(path: str, name: str, kind: Any, variant: str | None = None) -> nn.Module:
    """Load one component of a latentshift pipeline or a stock image pipeline.

    Args:
        path: a folder or hub id.
        name: e.g. ``text_encoder``.
        kind: its class.
        variant: of the weight files; a component in a folder without it has files of none.
    """
    family = find_family(path)
    subfolder = name if family is None else family.parts[name]
    if Path(path).is_dir() and not has_variant(Path(path) / subfolder, variant):
        variant = None
    part: nn.Module = kind.from_pretrained(path, subfolder=subfolder, use_safetensors=True, variant=variant)
    return part


@contextmanager
def errors_as_one_sentence(model: str, path: str) -> Iterator[None]:
    """Convert any exception while a model is loaded to a ValueError of one line.

    Args:
        model: as the user named it.
        path: of it, which the message may name already.
    """
    try:
        yield
    except Exception as error:  # whatever a damaged folder, or the hub, makes the libraries raise
        reason = one_line(error)
        raise ValueError(
            reason if _names_folder(reason, path) else f"the model {model} cannot be loaded: {reason}"
        ) from error


@contextmanager
def _explained(folder: Path, parts: tuple[str, ...], variant: str | None) -> Iterator[None]:
    """Convert exceptions of the libraries to a ValueError that names the faulty component, if it is known."""
    try:
        yield
    except Exception as error:
        if _names_folder(str(error), str(folder)) or (reason := explain_failure(folder, parts, variant)) is None:
            raise
        raise ValueError(reason) from error


def _names_folder(message: str, folder: str) -> bool:
    return message.startswith((f"{folder} ", f"{folder}/", f"{folder}:"))  # the folder may be named "b"
