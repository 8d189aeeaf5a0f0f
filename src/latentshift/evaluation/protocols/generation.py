"""Videos that a model makes for a plan's prompts, one after another, as they are consumed.

Legend of shapes: F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentshift.data.rejected import Rejected
from latentshift.evaluation.protocols.kept_clips import KeptClips
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.run import Video
from latentshift.evaluation.protocols.systems import SystemName

Generate = Callable[[str, int], np.ndarray]  # (prompt, seed) -> uint8 (F, H, W, 3)


@dataclass(frozen=True)
class GenerationSettings:
    """How a model makes its videos.

    Attributes:
        system: ``video``: the model's videos. ``frozen``: one image of the model as it is, held still (Table 5, "T2I").
            ``images``: the plain image model, without shift and temporal layers, an image for each frame.
            ``frozen-images``: one image of the plain image model, held still (Table 5, "LDM").
        frames: F.
        height, width: in pixels.
        steps: of the sampler.
        guidance: scale.
    """

    system: SystemName
    frames: int
    height: int
    width: int
    steps: int
    guidance: float


class Generator:
    """Makes a video from prompt and seed; its bits depend on nothing else on the same device and dtype.

    Args:
        pipeline: a :class:`latentshift.pipeline.LatentShiftPipeline` with its sampler; ``images`` and ``frozen-images``
            take its shift and temporal layers away.
        settings: of the videos.

    Raises:
        ValueError: for settings that the model can't have.
    """

    def __init__(self, pipeline: Any, settings: GenerationSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        pipeline.set_progress_bar_config(disable=True)
        if settings.system in ("images", "frozen-images"):
            pipeline.set_method("none")
            pipeline.set_noise_share(0.0)
        size = (settings.height, settings.width)
        pipeline.check_inputs(settings.frames, *size, settings.steps, settings.guidance, 1, "pil")

    def __call__(self, prompt: str, seed: int) -> np.ndarray:
        """uint8 (F, H, W, 3).

        Raises:
            Rejected: if the model's output is not finite.
        """
        import torch

        from latentshift.pipeline import NotFiniteError
        from latentshift.video import as_clip

        settings = self.settings
        still = settings.system in ("frozen", "frozen-images")
        try:
            (video,) = self.pipeline(
                prompt,
                num_frames=1 if still else settings.frames,
                height=settings.height,
                width=settings.width,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(seed),  # on the CPU: the same noise everywhere
                return_dict=False,
            )[0]
        except NotFiniteError as error:
            raise Rejected("not-finite", str(error)) from None
        clip = as_clip(video)
        return np.repeat(clip, settings.frames, axis=0) if still else clip


def generated_videos(generate: Generate, kept: KeptClips, items: Iterable[tuple[int, Item]]) -> Iterator[Video]:
    """The videos of some items in order: read if they were kept, else made.

    Args:
        generate: the system.
        kept: clips of this result.
        items: index and item of each.
    """
    for index, item in items:
        assert item.seed is not None
        video: np.ndarray | Rejected | None = kept.read(item)
        if video is None:
            try:
                video = generate(item.prompt, item.seed)
            except Rejected as rejected:
                video = rejected
        yield index, item, video, None
