"""``bench extension``: how a sprites clip changes as it goes on by an overlap, beside one long pass.

The prompts are of motions that may go on beyond a clip, with the seeds of the sprites study.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentshift.benchmarks.kept_measures import Measures, mean_estimate, measure_missing, open_folder
from latentshift.benchmarks.report import Result
from latentshift.data.sprites import NUM_FRAMES
from latentshift.evaluation.sprites.clip_drift import measure_drift
from latentshift.evaluation.sprites.parts import part_named, prompts_of
from latentshift.pipeline import LatentShiftPipeline
from latentshift.video import as_clip

_LASTING = part_named("lasting")
_DRIFT = ("colour", "ground", "contrast", "same_colour", "seen", "motion")
_SEAMS = ("seam_step", "inner_step", "seam_colour", "inner_colour")


@dataclass(frozen=True)
class Way:
    """One way to a long clip.

    Attributes:
        overlap: K of each extension, or of the windows that one long pass is looked at in.
        seen: ``keyframe_input`` of the extensions; None: one long pass.
    """

    overlap: int
    seen: str | None

    @property
    def name(self) -> str:
        """Of its rows and its folder."""
        return "one pass" if self.seen is None else f"overlap {self.overlap}, seen {self.seen}"

    @property
    def stride(self) -> int:
        """New frames of an extension."""
        return NUM_FRAMES - self.overlap

    def frames(self, extensions: int) -> int:
        """Of the whole clip."""
        return NUM_FRAMES + extensions * self.stride


def bench_extension(
    pipeline: LatentShiftPipeline,
    output: Path,
    overlaps: tuple[int, ...],
    count: int,
    extensions: int,
    steps: int,
    guidance: float | None,
) -> Iterator[Result]:
    """Rows of each way after more and more extensions, then a row of each about its seams.

    Args:
        pipeline: trained on sprites, with its sampler.
        output: folder of what was measured; a repeated call makes only what is missing there.
        overlaps: K, 1 … 15.
        count: videos of each way.
        extensions: N.
        steps: of the sampler.
        guidance: scale; None: the model's.

    Raises:
        ValueError: if the folder is of other settings, or the model's videos are not the sprites world's.
    """
    if pipeline.config.num_frames != NUM_FRAMES:
        raise ValueError(f"bench extension is for models of {NUM_FRAMES} frames, as the sprites world's clips have")
    pipeline.set_progress_bar_config(disable=True)
    scale = pipeline.config.guidance_scale if guidance is None else guidance
    open_folder(output, pipeline, steps=steps, guidance=scale, extensions=extensions)
    ways = [Way(overlap, seen) for overlap in overlaps for seen in (None, "noisy", "clean")]
    measured: dict[Way, list[Measures]] = {}
    shown = sorted({0, 1, 2, 5, extensions} & set(range(extensions + 1)))
    for way in ways:
        measured[way] = _videos(pipeline, output, way, count, extensions, steps, scale)
        for number in shown:
            row: Result = {"way": way.name, "frames": way.frames(number), "extensions": number, "videos": count}
            yield row | {name: mean_estimate(measured[way], f"{name}_{number}") for name in _DRIFT}
    for way in ways:
        row = {"way": way.name, "frames": way.frames(extensions), "videos": count}
        yield row | {name: mean_estimate(measured[way], name) for name in _SEAMS}


def _videos(
    pipeline: LatentShiftPipeline, output: Path, way: Way, count: int, extensions: int, steps: int, guidance: float
) -> list[Measures]:
    wanted = prompts_of(_LASTING, count, pipeline.sample_size)

    def measure(index: int) -> tuple[np.ndarray, Measures]:
        sprite, prompt, seed = wanted[index]
        options: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "generator": torch.Generator().manual_seed(seed),
            "return_dict": False,
        }
        if way.seen is None:
            (video,) = pipeline(prompt, num_frames=way.frames(extensions), **options)[0]
        else:
            clip = pipeline(prompt, output_type="latent", **options)[0]
            options |= {"num_extensions": extensions, "overlap": way.overlap, "keyframe_input": way.seen}
            (video,) = pipeline.extend(clip, prompt, **options)[0]
        frames = as_clip(video)
        return frames, measure_drift(frames, NUM_FRAMES, way.stride, sprite)

    folder = output / f"overlap-{way.overlap}-{way.seen or 'one-pass'}"
    return measure_missing(folder, [seed for _, _, seed in wanted], measure)
