"""What is asked of an image pipeline, classic or modular: which arguments it takes, and its pictures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from latentshift.diffusion.schedulers import check_step_count
from latentshift.models.storage.tested_pipelines import TESTED
from latentshift.settings import least_strength

# Guiders whose prediction is a sum of predictions; the others' depends on norms, of each frame by itself here.
_LINEAR_GUIDERS = {
    "AutoGuidance",
    "ClassifierFreeGuidance",
    "PerturbedAttentionGuidance",
    "SkipLayerGuidance",
    "SmoothedEnergyGuidance",
}


# Whose guess_mode fails under guidance in diffusers 0.42.1: the ControlNet's part of the batch meets all of it.
_NO_GUESSING = {"StableDiffusionControlNetPAGPipeline", "StableDiffusionXLControlNetUnionPipeline"}


def check_tested(pipe: Any) -> None:
    """Refuse a pipeline that is none of those that are tested, nor of a class made from one of them.

    Raises:
        ValueError: naming its class.
    """
    if not _is_tested(pipe):
        raise ValueError(
            f"in which order {type(pipe).__name__} keeps the frames of a video is not tested; docs/pipelines.md lists "
            "the pipelines for which it is, and untested=True takes any other at your own risk"
        )


def _is_tested(pipe: Any) -> bool:
    return any(base.__name__ in TESTED for base in type(pipe).__mro__)


def is_modular(pipe: Any) -> bool:
    """Whether it is made of blocks (``ModularPipeline``)."""
    return hasattr(pipe, "blocks") and hasattr(pipe.blocks, "inputs")


def accepted_arguments(pipe: Any) -> frozenset[str]:
    """Names of a call's arguments."""
    if is_modular(pipe):
        return frozenset(each.name for each in pipe.blocks.inputs if each.name is not None)
    return frozenset(inspect.signature(type(pipe).__call__).parameters) - {"self", "kwargs"}


def make_pictures(pipe: Any, options: dict[str, Any], output_type: str) -> tuple[Any, list[bool] | None]:
    """Call the pipeline.

    Returns:
        Its pictures, by ``output_type``, and for each whether the safety checker found something, or None.
    """
    if is_modular(pipe):
        return pipe(**options, output_type=output_type, output="images"), None
    made = pipe(**options, output_type=output_type, return_dict=True)
    return made.images, getattr(made, "nsfw_content_detected", None)


def check_pictures_given(pipe: Any, given: Mapping[str, Any], num_frames: int) -> None:
    """Refuse a call without a picture that the pipeline can't do without; diffusers says so far inside.

    Raises:
        ValueError: naming it.
    """
    if is_modular(pipe) or not _is_tested(pipe):  # a modular pipeline chooses its blocks by what there is
        return
    accepted = accepted_arguments(pipe)
    for name in ("image", "mask_image", "control_image"):
        if name in accepted and given.get(name) is None:
            raise ValueError(f"{type(pipe).__name__} needs {name}: give one picture, or a clip of {num_frames}")


def check_steps_left(pipe: Any, given: Mapping[str, Any]) -> None:
    """Refuse fewer steps than the scheduler can make, and a ``strength`` that leaves none of them, which pipelines meet
    with errors of all kinds, far inside.

    Raises:
        ValueError: saying how many steps or which strength will do.
    """
    steps = given.get("num_inference_steps", _default(pipe, "num_inference_steps"))
    if steps is not None and not {"timesteps", "sigmas"} & given.keys():
        check_step_count(pipe.scheduler, steps)
    if "image" not in given or "denoising_start" in given:
        return
    if "original_inference_steps" in accepted_arguments(pipe):  # LCM's says so itself
        return
    strength = given.get("strength", _default(pipe, "strength"))
    schedule = given.get("timesteps", given.get("sigmas"))
    steps = steps if schedule is None else len(schedule)
    if strength is not None and steps is not None and int(steps * strength) == 0:
        raise ValueError(f"strength {strength:g} leaves none of {steps} steps: give {least_strength(steps):g} or more")


def check_guess_mode(pipe: Any, given: Mapping[str, Any]) -> None:
    """Refuse ``guess_mode`` where diffusers' own pipeline fails with it.

    Raises:
        ValueError: saying what to do.
    """
    if not given.get("guess_mode") or not any(base.__name__ in _NO_GUESSING for base in type(pipe).__mro__):
        return
    if given.get("guidance_scale", _default(pipe, "guidance_scale")) > 1:
        raise ValueError(
            f"guess_mode does not work with guidance in {type(pipe).__name__} of diffusers: leave it out, or set "
            "guidance_scale to 1"
        )


def _default(pipe: Any, name: str) -> Any:
    """Of an argument; None if the pipeline does not have it."""
    if is_modular(pipe):
        return next((each.default for each in pipe.blocks.inputs if each.name == name), None)
    parameter = inspect.signature(type(pipe).__call__).parameters.get(name)
    return None if parameter is None else parameter.default


def check_guider(pipe: Any) -> None:
    """Refuse a modular pipeline's guider that would treat each frame of a video by itself.

    Raises:
        ValueError: naming it.
    """
    guider = getattr(pipe, "guider", None)
    if guider is None:
        return
    kind = type(guider).__name__
    if kind not in _LINEAR_GUIDERS:
        raise ValueError(f"{kind} is not for videos: it would act on each frame by itself; take ClassifierFreeGuidance")
    if getattr(guider, "guidance_rescale", 0):
        raise ValueError(f"guidance_rescale of {kind} is not for videos: it would rescale each frame by itself")


def check_clip_skip(pipe: Any, clip_skip: int) -> None:
    """Refuse ``clip_skip`` where diffusers looks for a part of CLIP that newer versions of transformers call otherwise.

    Raises:
        ValueError: for the pipelines of SD 1.x and 2.x with such a CLIP, or for a layer that there is not.
    """
    encoder = getattr(pipe, "text_encoder", None)
    if getattr(pipe, "text_encoder_2", None) is None and not hasattr(encoder, "text_model"):
        raise ValueError(
            f"clip_skip does not work in {type(pipe).__name__} with this version of transformers, whose "
            f"{type(encoder).__name__} has no text_model: pass prompt_embeds, or take LatentShiftPipeline"
        )
    encoders = (encoder, getattr(pipe, "text_encoder_2", None))
    layers = [each.config.num_hidden_layers for each in encoders if each is not None]
    if layers and not 0 <= clip_skip < min(layers):
        raise ValueError(f"clip_skip must be 0 to {min(layers) - 1} for this model, not {clip_skip}")
