"""Whether the parts of an image pipeline can make a video together, and the shift's settings that they come with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from latentshift.frame_context import frame_context, uncompiled
from latentshift.models.controlnet import trained_shift
from latentshift.models.storage.model_config import check_pipeline_settings
from latentshift.models.storage.other_models import VIDEO_UNETS
from latentshift.models.storage.saved_settings import saved_setting
from latentshift.settings import ShiftConfig
from latentshift.shift import install, remove, shift_of

_FOR_UNETS = "the temporal shift is for image U-Nets: take a pipeline of one (SD 1.x, SD 2.x, SDXL, LDM)"


def check_pipeline(pipe: Any) -> None:
    """Refuse what is no image pipeline with a U-Net, or has a ControlNet or adapter of another base.

    Raises:
        ValueError: in one sentence.
    """
    kind = type(pipe).__name__
    if not callable(pipe) or not hasattr(pipe, "components"):
        raise ValueError(f"latentshift.video takes an image pipeline of diffusers, not a {kind}")
    if kind == "LatentShiftPipeline":
        raise ValueError("a LatentShiftPipeline makes videos by itself: call it")
    if getattr(pipe, "transformer", None) is not None:
        raise ValueError(f"{kind} has a transformer, and {_FOR_UNETS}, or a video model")
    unet = getattr(pipe, "unet", None)
    if unet is None:
        raise ValueError(f"{kind} has no U-Net, and {_FOR_UNETS}")
    if type(uncompiled(unet)).__name__ in VIDEO_UNETS:
        raise ValueError(f"{kind} makes videos by temporal layers of its own, and {_FOR_UNETS}, or call it as it is")
    check_conditions(pipe)


def check_trained_shift(pipe: Any, shifted: Sequence[nn.Module]) -> None:
    """Refuse to use a ControlNet frame by frame that :mod:`latentshift.training` trained with the shift.

    Args:
        pipe: the image pipeline.
        shifted: modules in which frames meet beside the U-Net.

    Raises:
        ValueError: if a ControlNet is not among them that was trained so, or with other settings than the U-Net has.
    """
    for net in controlnets(pipe):
        trained = trained_shift(net)
        if trained is None:
            continue
        holder = next((each for each in shifted if any(net is part for part in each.modules())), None)
        if holder is None:
            raise ValueError("the ControlNet was trained with frames that meet in it: pass also=[pipe.controlnet]")
        if (config := ShiftConfig.from_dict(trained)) != (found := shift_of(holder)):
            raise ValueError(f"the ControlNet was trained with another shift ({config}) than the U-Net has ({found})")


def controlnets(pipe: Any) -> list[Any]:
    """The ControlNets of a pipeline, if any."""
    controlnet = getattr(pipe, "controlnet", None)
    return [] if controlnet is None else list(getattr(uncompiled(controlnet), "nets", [uncompiled(controlnet)]))


def check_conditions(pipe: Any) -> None:
    """Refuse a ControlNet or T2I-Adapter that was made for another U-Net than the pipeline's.

    Raises:
        ValueError: naming what differs.
    """
    ours: Any = uncompiled(pipe.unet).config
    for net in controlnets(pipe):
        for setting in ("cross_attention_dim", "block_out_channels", "addition_embed_type"):
            theirs, expected = (_as_tuple(getattr(each, setting, None)) for each in (net.config, ours))
            if hasattr(net.config, setting) and theirs != expected:
                raise ValueError(
                    f"the ControlNet is of another base: its {setting} is {theirs} and the U-Net's {expected}"
                )
    adapter = getattr(pipe, "adapter", None)
    if adapter is not None:
        for each in getattr(adapter, "adapters", [adapter]):
            channels = tuple(each.config.channels)
            if channels != tuple(ours.block_out_channels)[: len(channels)]:
                raise ValueError(
                    f"the T2I-Adapter is of another base: its channels are {channels} and the U-Net's "
                    f"{tuple(ours.block_out_channels)}"
                )


def read_noise_share(pipe: Any, given: float | None) -> float:
    """How much of their noise the frames of a video share: what is given, or that of the model, or 0.

    Raises:
        ValueError: if it is no number in its range.
    """
    share = saved_setting(pipe, "noise_share", 0.0) if given is None else given
    check_pipeline_settings(noise_share=share)
    return float(share)


def as_modules(also: nn.Module | Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """What ``also`` of :func:`latentshift.video` names, one module or several.

    Raises:
        ValueError: if something there is no module.
    """
    several = isinstance(also, (list, tuple, nn.ModuleList))
    modules = tuple(cast(Any, also)) if several else (also,)
    for module in modules:
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"also takes modules with ResNet blocks, [pipe.controlnet] say, not a {type(module).__name__}"
            )
    return modules


def install_where_missing(pipe: Any, shift: ShiftConfig | None, also: Sequence[nn.Module]) -> list[nn.Module]:
    """Install the shift on the U-Net and on other modules, unless it is there.

    Args:
        pipe: the image pipeline.
        shift: its settings; None: those of the U-Net's, or those that the model was saved with, or the paper's.
        also: other modules of ResNet blocks, a ControlNet say.

    Returns:
        The modules on which it was installed here.

    Raises:
        ValueError: if it is installed with other settings, or can't be, or a ControlNet was trained with it and is not
            among the modules; nothing is installed then.
    """
    if shift is None:
        shift = shift_of(pipe.unet)
    if shift is None and frame_context(pipe.unet) is None:
        saved = saved_setting(pipe, "shift", ShiftConfig().to_dict())
        if saved is None:
            raise ValueError(
                "this model was saved without the temporal shift, and image pipelines do not load temporal layers: use "
                "LatentShiftPipeline, or say shift=ShiftConfig()"
            )
        shift = ShiftConfig.from_dict(saved)
    installed: list[nn.Module] = []
    try:
        for module in (pipe.unet, *also):
            current = shift_of(module)
            if shift is None or current == shift:
                continue
            if current is not None:
                raise ValueError(f"the temporal shift is installed with other settings ({current}): remove it first")
            install(module, shift)
            installed.append(module)
        check_trained_shift(pipe, also)
    except BaseException:
        while installed:
            remove(installed.pop())
        raise
    return installed


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
