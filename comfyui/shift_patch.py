"""The temporal shift on a ComfyUI MODEL, without changing it for anyone else.

ComfyUI's image batch is the frames of one video. A call of the U-Net holds it once for each condition that runs in it
(``cond_or_uncond``), side by side, so a batch of M pictures is M / len(cond_or_uncond) frames.

The shift sits at the output of a ResNet block's first GroupNorm, or where else its settings say, as in
:mod:`latentshift.shift`: hooks hang there for the time of one call. No module is replaced and no weight patched, so
LoRAs, ControlNets and other clones of the same MODEL see what they saw before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from latentshift.settings import ShiftConfig
from latentshift.shift import temporal_shift

_KEY = "latentshift"  # of our wrapper, of which a MODEL has one at most


def own_clone(model: Any) -> Any:
    """A clone of what a node was given, to change: its weights are shared with the MODEL.

    A node makes one and no more. ComfyUI unloads a MODEL whose node has run again by the one it was cloned from, which
    must then be another node's output: a clone between them would be gone, and the weights would stay in memory.

    Raises:
        ValueError: if it is no MODEL.
    """
    from comfy.model_patcher import ModelPatcher

    if not isinstance(model, ModelPatcher):
        raise ValueError(f"the input model is no MODEL, but {model!r}: link it to the output of a loader")
    return model.clone()


def apply_temporal_shift(model: Any, config: ShiftConfig) -> None:
    """Make the pictures of a MODEL (ModelPatcher), a node's own, the frames of one video.

    A shift that it has already is replaced.

    Raises:
        ValueError: if it is no image U-Net, or has blocks of fewer channels than folds.
    """
    from comfy.patcher_extension import WrappersMP

    for block in _blocks(model.model.diffusion_model, config):
        norm = _norm(block, config)
        if norm.num_channels < config.fold:
            raise ValueError(f"a block of {norm.num_channels} channels is too narrow for fold {config.fold}")
        if config.place == "conv2" and block.use_scale_shift_norm:
            raise ValueError(
                'the place "conv2" is not for this MODEL, whose blocks scale by the timestep after its norm'
            )
    model.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, _KEY)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, _KEY, partial(_call_shifted, config))


def shift_of(model: Any) -> ShiftConfig | None:
    """The settings of the shift on a MODEL; None if it has none."""
    from comfy.patcher_extension import WrappersMP

    wrappers = model.get_wrappers(WrappersMP.DIFFUSION_MODEL, _KEY)
    return wrappers[0].args[0] if wrappers else None


@torch.compiler.disable  # blocks that were compiled without these hooks would go on without them, and say nothing
def _call_shifted(config: ShiftConfig, executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Run the U-Net of an executor on x (conditions · F, C, h, w), with the shift."""
    options = kwargs.get("transformer_options") or next(
        (each for each in args if isinstance(each, dict) and "cond_or_uncond" in each), {}
    )
    num_frames = _frames_of_call(x, options, config)

    def shift_output(module: nn.Module, inputs: Any, normed: Tensor) -> Tensor:
        return temporal_shift(normed, num_frames, config)

    def shift_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return temporal_shift(inputs[0], num_frames, config), *inputs[1:]

    handles = []
    try:
        for block in _blocks(executor.class_obj, config):
            if config.place == "block":
                handles.append(block.register_forward_pre_hook(shift_input))
            else:
                handles.append(_norm(block, config).register_forward_hook(shift_output))
        return executor(x, *args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()


def _frames_of_call(x: Tensor, options: dict[str, Any], config: ShiftConfig) -> int:
    conditions = len(options.get("cond_or_uncond") or ())
    if conditions == 0:
        raise ValueError("the temporal shift does not know this sampler: it calls the U-Net without `cond_or_uncond`")
    if len(x) % conditions:
        raise ValueError(f"a batch of {len(x)} pictures does not divide into {conditions} conditions")
    if config.padding == "circular" and options.get("context_window") is not None:
        raise ValueError(
            "circular padding would close a loop in every context window: set the padding to zeros or replicate, and "
            "for a loop context_schedule to looped_uniform and closed_loop to true"
        )
    return len(x) // conditions


def _blocks(unet: nn.Module, config: ShiftConfig) -> list[Any]:
    """The ResNet blocks that shift.

    Raises:
        ValueError: if this is no image U-Net.
    """
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel, VideoResBlock

    is_image_unet = isinstance(unet, UNetModel)
    blocks = {name: each for name, each in unet.named_modules() if isinstance(each, ResBlock)} if is_image_unet else {}
    if not blocks:
        raise ValueError(
            f"this MODEL is a {type(unet).__name__}, and the temporal shift is for image U-Nets: load a checkpoint of "
            "Stable Diffusion 1.x, 2.x or SDXL, or use a video model without this node"
        )
    if any(isinstance(each, VideoResBlock) for each in blocks.values()):
        raise ValueError("this MODEL is a video model already, and the temporal shift is for image U-Nets")
    return [block for name, block in blocks.items() if config.blocks in ("all", _part_of(name))]


def _part_of(name: str) -> str:
    return "decoder" if name.startswith("output_blocks.") else "encoder"


def _norm(block: Any, config: ShiftConfig) -> nn.GroupNorm:
    """The layer whose output is shifted; of the place "block", the one that has its channels."""
    return block.out_layers[0] if config.place == "conv2" else block.in_layers[0]
