"""Samples of a model in training: a video of the clips side by side, and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from latentshift.contact_sheet import contact_sheet, side_by_side
from latentshift.image_pipelines.controlnet import with_controlnet
from latentshift.pipeline import LatentShiftPipeline, NotFiniteError
from latentshift.progress import progress_bar
from latentshift.training.offload import OffloadedParts
from latentshift.video import as_clip, to_uint8, write_video

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
        controlnet: that is trained for the pipeline.
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
        controlnet: ControlNetModel | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._offloaded = offloaded
        self._device = device
        self._num_frames = num_frames
        self._num_inference_steps = num_inference_steps
        self._guidance_scale = guidance_scale
        self._controlnet = controlnet

    def write(self, prompts: Sequence[str], path: Path, conditions: Sequence[np.ndarray] = ()) -> None:
        """Write ``path.png``, and ``path.mp4`` if clips have more than one frame. The picture is written last.

        Args:
            prompts: one clip each, made with the seeds 0, 1, ….
            path: without a suffix.
            conditions: of the ControlNet, one for each prompt, uint8 (F, S, S, 3); each is shown above its clip.

        Raises:
            NotFiniteError: if the model makes values that are not finite.
        """
        pipeline, steps = self._pipeline, self._num_inference_steps
        clips, captions = [], []
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
                options: dict[str, Any] = {
                    "num_frames": self._num_frames,
                    "num_inference_steps": steps,
                    "guidance_scale": self._guidance_scale,
                    "generator": torch.Generator().manual_seed(seed),
                    "callback_on_step_end": count,
                    "return_dict": False,
                }
                if conditions:
                    clips.append(conditions[seed])
                    captions.append(prompt)
                    clips.append(self._controlled(prompt, conditions[seed], options))
                    captions.append("")
                else:
                    (video,) = pipeline(prompt, output_type="pil", decode_chunk_size=1, **options)[0]
                    clips.append(as_clip(video))
                    captions.append(prompt)
        if self._num_frames > 1:
            write_video(path.with_suffix(".mp4"), side_by_side(clips), fps=pipeline.config.fps)
        write_video(path.with_suffix(".png"), contact_sheet(clips, captions)[None])

    def _controlled(self, prompt: str, condition: np.ndarray, options: dict[str, Any]) -> np.ndarray:
        pipeline = self._pipeline
        assert self._controlnet is not None
        if options["guidance_scale"] is None:  # the image pipeline's would be another
            options["guidance_scale"] = pipeline.config.guidance_scale
        video = with_controlnet(pipeline, self._controlnet, self._num_frames)
        try:
            pictures = [Image.fromarray(frame) for frame in condition]
            (frames,) = video(prompt, image=pictures, output_type="np", **options)[0]
        finally:
            video.remove()
        if not np.isfinite(frames).all():
            raise NotFiniteError("the model's output is not finite (NaN or infinite)")
        return to_uint8(2 * frames - 1)
