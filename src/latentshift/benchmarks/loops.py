"""``bench loops``: whether a clip's last frame leads on to its first one as other frames do to the next.

With circular padding nothing tells a model which frame is the first: turning the frames' order round turns the result
round. So the step from the last frame to the first is distributed as every other step, and of F such steps it is as
likely to be any of them in order of size. The prompts and seeds are those of the sprites study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from latentshift.benchmarks.kept_measures import Measures, mean_estimate, measure_missing, open_folder
from latentshift.benchmarks.report import Result, share_value
from latentshift.benchmarks.timing import median_interval
from latentshift.evaluation.sprites.parts import part_named, prompts_of
from latentshift.evaluation.sprites.seeded_clip import seeded_clip
from latentshift.pipeline import LatentShiftPipeline

_SEEN = part_named("seen")


def measure_loop(video: np.ndarray) -> Measures:
    """The step from the last frame to the first, beside those from each other frame to the next.

    Args:
        video: uint8 RGB (F, H, W, 3), F >= 3.

    Returns:
        By name, in levels (0 … 255), the mean absolute difference over pixels and colours: ``wrap``, of the last frame
        and the first; ``neighbours``, the median of the other F - 1; ``mean_neighbours``, their mean; ``largest``, the
        largest of them; ``excess``, ``wrap`` less ``neighbours``.
    """
    levels = video.astype(np.float32)
    *steps, wrap = np.abs(np.roll(levels, -1, axis=0) - levels).mean(axis=(1, 2, 3), dtype=np.float64).tolist()
    middle = median(steps)
    return {
        "wrap": wrap,
        "neighbours": middle,
        "mean_neighbours": float(np.mean(steps)),
        "largest": max(steps),
        "excess": wrap - middle,
    }


def bench_loops(
    pipeline: LatentShiftPipeline,
    output: Path,
    paddings: Sequence[str],
    count: int,
    frames: int | None,
    steps: int,
    guidance: float | None,
) -> Iterator[Result]:
    """A row for each padding: the last step of its videos beside the others.

    Args:
        pipeline: with the temporal shift and a sampler.
        output: folder of what was measured; a repeated call makes only what is missing there.
        paddings: of the shift.
        count: videos of each padding.
        frames: F of each video, 3 or more; None: the model's.
        steps: of the sampler.
        guidance: scale; None: the model's.

    Raises:
        ValueError: for a model without the shift, for fewer frames, or if the folder is of other settings.
    """
    shift = pipeline.config.shift
    if shift is None:
        raise ValueError("bench loops is for the temporal shift, and the model has none")
    length = pipeline.config.num_frames if frames is None else frames
    if length < 3:
        raise ValueError(f"a loop has 3 frames or more to be compared, not {length}")
    pipeline.set_progress_bar_config(disable=True)
    scale = pipeline.config.guidance_scale if guidance is None else guidance
    unpadded = {name: value for name, value in shift.items() if name != "padding"}
    open_folder(output, pipeline, steps=steps, guidance=scale, frames=length, shift=unpadded)
    wanted = prompts_of(_SEEN, count, pipeline.sample_size)

    def measure(index: int) -> tuple[np.ndarray, Measures]:
        _, prompt, seed = wanted[index]
        clip = seeded_clip(pipeline, prompt, seed, steps=steps, guidance=scale, num_frames=length)
        return clip, measure_loop(clip)

    seeds = [seed for _, _, seed in wanted]
    for padding in paddings:
        pipeline.set_shift({**shift, "padding": padding})
        yield _row(padding, measure_missing(output / padding, seeds, measure))


def _row(padding: str, videos: Sequence[Measures]) -> Result:
    """Medians have a 95 % interval over videos, and so have means and shares."""
    wraps = [each["wrap"] for each in videos]
    return {
        "padding": padding,
        "videos": len(videos),
        "median_wrap": median_interval(wraps),
        "median_neighbours": median_interval([each["neighbours"] for each in videos]),
        "mean_wrap": mean_estimate(videos, "wrap"),
        "mean_neighbours": mean_estimate(videos, "mean_neighbours"),
        "median_excess": median_interval([each["excess"] for each in videos]),
        "no_larger": share_value(sum(each["excess"] <= 0 for each in videos), len(videos)),
        "largest_of_all": share_value(sum(each["wrap"] > each["largest"] for each in videos), len(videos)),
    }
