"""Copies of a module that share its weights, so that modules installed on one do not affect the other.

An image pipeline and a video pipeline can so share a U-Net's weights at no cost in memory.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar, cast

from torch import nn

from latentshift.frame_context import FrameContext, frame_context, uncompiled

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


def _memo(module: nn.Module) -> dict[int, Any]:
    """The memo of ``deepcopy`` for a U-Net: a new frame context; temporal layers are not copied."""
    context = frame_context(module)
    if context is None:
        return {}
    own = FrameContext()
    own.installed = dict(context.installed)
    beside = [each for each in context.installed.values() if isinstance(each, nn.Module)]
    return {id(context): own} | {id(part): part for each in beside for part in each.modules()}
