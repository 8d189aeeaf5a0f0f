"""Copies of a module that share its weights, so that modules installed on one do not affect the other.

An image pipeline and a video pipeline can so share a U-Net's weights at no cost in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, TypeVar, cast

import torch
from diffusers import DiffusionPipeline
from torch import nn

from latentshift.frame_context import FrameContext, frame_context, uncompiled
from latentshift.models.storage.families import FAMILIES

Module = TypeVar("Module", bound=nn.Module)


def share_weights(module: Module) -> Module:
    """A copy of a module that shares its parameters and buffers.

    Settings, hooks, attention processors and adapters are copied; ``torch.compile`` is removed.

    Raises:
        ValueError: if hooks move the weights between devices, as after ``enable_model_cpu_offload``.
    """
    source = cast(Module, uncompiled(module))
    if any(hasattr(each, "_hf_hook") for each in source.modules()) or any(each.is_meta for each in source.parameters()):
        raise ValueError(
            f"the weights of this {type(source).__name__} are offloaded and can't be shared: call remove_all_hooks() "
            "of its pipeline first, and choose an offloading again afterwards"
        )
    weights = [*source.parameters(), *source.buffers()]
    return copy.deepcopy(source, _memo(source) | {id(each): each for each in weights})


def copy_weights(module: Module) -> Module:
    """A deep copy of a module, with its own weights."""
    source = cast(Module, uncompiled(module))
    return copy.deepcopy(source, _memo(source))


def share_components(
    pipeline: DiffusionPipeline, names: Collection[str], required: Collection[str], dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """Components for another pipeline: modules that share their weights with a loaded pipeline's, and its scheduler's
    copy.

    Args:
        pipeline: an image pipeline of a known family, or a latentshift pipeline.
        names: of the components, ours.
        required: those that must exist.
        dtype: of the modules; the weights of those with another dtype are copied. None: the pipeline's.

    Returns:
        Our name -> component; None for one that the pipeline does not have.

    Raises:
        ValueError: if a required component is missing, or for offloaded weights, as :func:`share_weights`.
    """
    kind = type(pipeline).__name__
    theirs = next((family.parts for family in FAMILIES.values() if family.pipeline == kind), {})
    parts: dict[str, Any] = {name: getattr(pipeline, theirs.get(name, name), None) for name in names}
    if missing := sorted(name for name in required if parts.get(name) is None):
        raise ValueError(f"this {kind} has no {missing[0]}, which a video pipeline needs: pass {missing[0]}=…")
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            another = dtype is not None and part.dtype != dtype
            parts[name] = copy_weights(part).to(dtype) if another else share_weights(part)
    if "scheduler" in parts:
        parts["scheduler"] = copy.deepcopy(parts["scheduler"])
    return parts


def _memo(module: nn.Module) -> dict[int, Any]:
    """The memo of ``deepcopy`` for a U-Net: a new frame context; temporal layers are not copied."""
    context = frame_context(module)
    if context is None:
        return {}
    own = FrameContext()
    own.installed = dict(context.installed)
    beside = [each for each in context.installed.values() if isinstance(each, nn.Module)]
    return {id(context): own} | {id(part): part for each in beside for part in each.modules()}
