"""What is asked of an image pipeline, classic or modular: which arguments it takes, and its pictures."""

from __future__ import annotations

import inspect
from typing import Any

# Guiders whose prediction is a sum of predictions; the others' depends on norms, of each frame by itself here.
_LINEAR_GUIDERS = {
    "AutoGuidance",
    "ClassifierFreeGuidance",
    "PerturbedAttentionGuidance",
    "SkipLayerGuidance",
    "SmoothedEnergyGuidance",
}


TESTED = frozenset(
    {
        "LDMTextToImagePipeline",
        "LatentConsistencyModelImg2ImgPipeline",
        "LatentConsistencyModelPipeline",
        "StableDiffusionAdapterPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionControlNetPAGInpaintPipeline",
        "StableDiffusionControlNetPAGPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionPAGInpaintPipeline",
        "StableDiffusionPAGPipeline",
        "StableDiffusionPipeline",
        "StableDiffusionXLAdapterPipeline",
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        "StableDiffusionXLControlNetPAGPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetUnionPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
        "StableDiffusionXLModularPipeline",
        "StableDiffusionXLPAGImg2ImgPipeline",
        "StableDiffusionXLPAGInpaintPipeline",
        "StableDiffusionXLPAGPipeline",
        "StableDiffusionXLPipeline",
    }
)
"""Pipelines whose order of frames tests/test_image_pipelines.py holds. Others may have an order that nothing here would
notice: StableDiffusionPanoramaPipeline puts the two halves of guidance between one frame and the next."""


def check_tested(pipe: Any) -> None:
    """Refuse a pipeline that is none of those that are tested, nor of a class made from one of them.

    Raises:
        ValueError: naming its class.
    """
    if not any(base.__name__ in TESTED for base in type(pipe).__mro__):
        raise ValueError(
            f"in which order {type(pipe).__name__} keeps the frames of a video is not tested; docs/pipelines.md lists "
            "the pipelines for which it is, and untested=True takes any other at your own risk"
        )


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
