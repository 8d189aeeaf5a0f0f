"""Samples of a model in training: a video of the clips side by side, and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from latentshift.contact_sheet import contact_sheet, side_by_side
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar
from latentshift.video import as_clip, write_video


def write_previews(
    pipeline: LatentShiftPipeline,
    prompts: Sequence[str],
    path: Path,
    *,
    num_frames: int,
    num_inference_steps: int,
    guidance_scale: float | None,
) -> None:
    """Write ``path.png``, and ``path.mp4`` if clips have more than one frame. The picture is written last.

    Args:
        pipeline: complete, on the device that samples.
        prompts: one clip each, made with the seeds 0, 1, ….
        path: without a suffix.
        num_frames: of each clip.
        num_inference_steps: of the sampler.
        guidance_scale: None: the pipeline's own.

    Raises:
        NotFiniteError: if the model makes values that are not finite.
    """
    clips = []
    with progress_bar(total=len(prompts) * num_inference_steps, text="samples", unit="step", leave=False) as bar:

        def count(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            bar.update()
            return {}

        for seed, prompt in enumerate(prompts):  # one by one: there is memory for that where there is for training
            (video,) = pipeline(
                prompt,
                num_frames=num_frames,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=torch.Generator().manual_seed(seed),
                output_type="pil",
                return_dict=False,
                decode_chunk_size=1,
                callback_on_step_end=count,
            )[0]
            clips.append(as_clip(video))
    if num_frames > 1:
        write_video(path.with_suffix(".mp4"), side_by_side(clips), fps=pipeline.config.fps)
    write_video(path.with_suffix(".png"), contact_sheet(clips, prompts)[None])
