"""Samples of a model in training: a video of the clips side by side, and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from latentshift.contact_sheet import contact_sheet, side_by_side
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar
from latentshift.training.offload import OffloadedParts
from latentshift.video import as_clip, write_video

PREVIEW_FRAMES = 16  # that an autoencoder shows, beside what it makes of them


class Previews:
    """Samples of a pipeline while it is trained.

    Args:
        pipeline: of the model in training.
        offloaded: its parts that are loaded for samples alone.
        device: that samples.
        num_frames: of each clip.
        num_inference_steps: of the sampler.
        guidance_scale: None: the pipeline's own.
    """

    def __init__(
        self,
        pipeline: LatentShiftPipeline,
        offloaded: OffloadedParts,
        device: torch.device,
        *,
        num_frames: int,
        num_inference_steps: int,
        guidance_scale: float | None,
    ) -> None:
        self._pipeline = pipeline
        self._offloaded = offloaded
        self._device = device
        self._num_frames = num_frames
        self._num_inference_steps = num_inference_steps
        self._guidance_scale = guidance_scale

    def write(self, prompts: Sequence[str], path: Path) -> None:
        """Write ``path.png``, and ``path.mp4`` if clips have more than one frame. The picture is written last.

        Args:
            prompts: one clip each, made with the seeds 0, 1, ….
            path: without a suffix.

        Raises:
            NotFiniteError: if the model makes values that are not finite.
        """
        pipeline, steps = self._pipeline, self._num_inference_steps
        clips = []
        with (
            self._offloaded.loaded(),
            progress_bar(total=len(prompts) * steps, text="samples", unit="step", leave=False) as bar,
        ):
            pipeline.to(self._device)
            pipeline.set_progress_bar_config(disable=True)

            def count(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
                bar.update()
                return {}

            for seed, prompt in enumerate(prompts):  # one by one: there is memory for that where there is for training
                (video,) = pipeline(
                    prompt,
                    num_frames=self._num_frames,
                    num_inference_steps=steps,
                    guidance_scale=self._guidance_scale,
                    generator=torch.Generator().manual_seed(seed),
                    output_type="pil",
                    return_dict=False,
                    decode_chunk_size=1,
                    callback_on_step_end=count,
                )[0]
                clips.append(as_clip(video))
        if self._num_frames > 1:
            write_video(path.with_suffix(".mp4"), side_by_side(clips), fps=pipeline.config.fps)
        write_video(path.with_suffix(".png"), contact_sheet(clips, prompts)[None])
