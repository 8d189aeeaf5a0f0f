"""A ``LatentShiftPipeline`` with a ControlNet: diffusers' pipeline for it, of the same parts, as a video pipeline."""

from __future__ import annotations

from typing import Any

from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline

from latentshift.image_pipelines.video_pipeline import VideoPipeline, video
from latentshift.models.controlnet import trained_shift
from latentshift.settings import ShiftConfig
from latentshift.shift import shift_of


def with_controlnet(
    pipeline: Any, controlnet: ControlNetModel, num_frames: int, *, shifted: bool | None = None
) -> VideoPipeline:
    """A video pipeline of another's parts, which are shared with it, and a ControlNet.

    Args:
        pipeline: a ``LatentShiftPipeline``, of SD, SDXL or LDM.
        controlnet: of its U-Net.
        num_frames: F of a call that does not say.
        shifted: whether frames meet in the ControlNet too; None: as it was trained.

    Raises:
        ValueError: as :func:`latentshift.video`.
    """
    if shifted is None:
        shifted = trained_shift(controlnet) is not None or shift_of(controlnet) is not None
    if pipeline.text_encoder_2 is None:
        absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipe = StableDiffusionControlNetPipeline.from_pipe(pipeline, controlnet=controlnet, **absent)
    else:
        pipe = StableDiffusionXLControlNetPipeline.from_pipe(pipeline, controlnet=controlnet, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    # Where frames do not meet, videos have one frame, which that padding leaves as it is.
    shift = ShiftConfig(padding="replicate") if shift_of(pipeline.unet) is None else None
    return video(pipe, num_frames, shift=shift, also=[controlnet] if shifted else [])
