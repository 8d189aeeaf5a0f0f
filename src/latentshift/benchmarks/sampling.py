"""What other ways to sample bring and cost: time, scores of the sprites, and distance to the exact result.

Each way makes the study's videos, of the same prompts and seeds, in a folder of its own, which is gone on with. Time is
taken of a few videos, all ways in turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentshift.benchmarks.report import Estimate, Result, share_value
from latentshift.benchmarks.sampling_ways import EXACT, Way
from latentshift.benchmarks.timing import spread
from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.diffusion.samplers import make_sampler
from latentshift.evaluation.estimates import share_difference_interval
from latentshift.evaluation.metrics.psnr_ssim import psnr
from latentshift.evaluation.sprites.parts import part_named, prompts_of
from latentshift.evaluation.sprites.scores import SCORES
from latentshift.evaluation.sprites.study import Study
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar
from latentshift.video import as_clip

LEAST_VIDEOS, MOST_LOST = 256, 1.0  # of the gate: videos, and percentage points of each score
_PART = part_named("seen")
_WORDS = {"joint": "all_right"}  # as pages call it


@dataclass(frozen=True)
class SamplingSettings:
    """Of one comparison.

    Attributes:
        model: its name.
        ways: beside the exact one.
        output: folder of the studies.
        exact: folder of the exact result's study, which may be one of ``evaluate sprites`` with the same settings.
        videos: of each study.
        timed: videos of each way whose time is taken, 1 or more.
        steps: of the exact result.
        guidance: scale of all; None: the model's.
    """

    model: str
    ways: Sequence[Way]
    output: Path
    exact: Path
    videos: int
    timed: int
    steps: int
    guidance: float | None


def bench_sampling(pipeline: LatentShiftPipeline, settings: SamplingSettings) -> Iterator[Result]:
    """A row of the exact result, then one for each way, as soon as its videos are there.

    Of the exact one: seconds a video, and scores in percent with 95 % Wilson intervals. Of a way: how many times as
    fast, with the lowest and the highest of the timed videos; the timed videos' PSNR to the exact ones, of all pixels
    together, None if they are the same; the scores' differences in percentage points with Newcombe's 95 % intervals;
    and whether it passes the gate (:func:`verdict`).

    Raises:
        ValueError: before any video is made, if a folder holds a study with other settings; or for a way that this
            model does not have.
    """
    own = pipeline.scheduler
    pipeline.set_progress_bar_config(disable=True)
    ways = [Way(EXACT, None, settings.steps, FewerOperations()), *settings.ways]
    try:
        samplers = [make_sampler(way.sampler, own) for way in ways]
        studies = []
        for way, sampler in zip(ways, samplers, strict=True):
            pipeline.scheduler = sampler
            folder = settings.exact if way is ways[0] else settings.output / way.slug
            steps = way.steps or settings.steps
            options: dict[str, Any] = {"true_clips": 0, "fewer": way.fewer}
            studies.append(Study(pipeline, settings.model, folder, steps, settings.guidance, **options))
        seconds, clips = _time(pipeline, samplers, ways, settings)
        exact: dict[str, Any] = {}
        for number, (way, sampler, study) in enumerate(zip(ways, samplers, studies, strict=True)):
            pipeline.scheduler = sampler
            ((_, scores),) = study.scores({_PART.name: settings.videos})
            if not number:
                exact = scores
                yield {
                    "way": f"{EXACT}: {settings.steps} steps",
                    "videos": settings.videos,
                    "seconds_a_video": spread(seconds[0]),
                    **{_WORDS.get(name, name): _share(scores, name) for name in _names(scores)},
                }
                continue
            changes = {name: _change(scores, exact, name) for name in _names(scores)}
            yield {
                "way": way.name,
                "videos": settings.videos,
                "times_as_fast": spread([a / b for a, b in zip(seconds[0], seconds[number], strict=True)]),
                "psnr_db": _psnr(clips[number], clips[0]),
                **{f"{_WORDS.get(name, name)}_points": change for name, change in changes.items()},
                "passes": verdict(settings.videos, [each.value for each in changes.values()]),
            }
    finally:
        pipeline.scheduler = own


def verdict(videos: int, changes: Sequence[float]) -> str:
    """Whether a way passes the gate: no score lower by more than one point, on 256 videos or more.

    Args:
        videos: of the study.
        changes: of its scores, in percentage points.
    """
    if videos < LEAST_VIDEOS:
        return f"not known: {LEAST_VIDEOS} videos decide"
    return "no" if any(change < -MOST_LOST - 1e-9 for change in changes) else "yes"


def _time(
    pipeline: LatentShiftPipeline, samplers: Sequence[Any], ways: Sequence[Way], settings: SamplingSettings
) -> tuple[list[list[float]], list[list[np.ndarray]]]:
    """Seconds and clips of each timed video, for each way: of the processor, or on a GPU of the wall."""
    on_cpu = pipeline.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    seconds: list[list[float]] = [[] for _ in ways]
    clips: list[list[np.ndarray]] = [[] for _ in ways]
    prompts = prompts_of(_PART, settings.timed, pipeline.sample_size)
    rounds = [prompts[0], *prompts]  # the first one, when libraries choose kernels, does not count
    for number, (_, prompt, seed) in enumerate(progress_bar(rounds, text="timing", unit="round", leave=False)):
        for way, sampler, taken, kept in zip(ways, samplers, seconds, clips, strict=True):
            pipeline.scheduler = sampler
            start = clock()
            (video,) = pipeline(
                prompt,
                num_inference_steps=way.steps or settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(seed),
                return_dict=False,
                **way.fewer.arguments(),
            )[0]
            if number:
                taken.append(clock() - start)
                kept.append(as_clip(video))
    return seconds, clips


def _psnr(clips: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float | None:
    """Of clips, (F, H, W, 3) each, as if all were one picture; None where it would be infinite."""
    of_way, of_exact = (
        np.concatenate([clip.reshape(1, -1, *clip.shape[2:]) for clip in each], axis=1) for each in (clips, exact)
    )
    (decibels,) = psnr(of_way, of_exact)
    return float(decibels) if np.isfinite(decibels) else None


def _names(scores: dict[str, Any]) -> list[str]:
    return [name for name in SCORES if scores[name] is not None]


def _right(scores: dict[str, Any], name: str) -> tuple[int, int]:
    return round(scores[name] * scores["n"]), scores["n"]


def _share(scores: dict[str, Any], name: str) -> Estimate:
    share = share_value(*_right(scores, name))
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high)


def _change(scores: dict[str, Any], exact: dict[str, Any], name: str) -> Estimate:
    low, high = share_difference_interval(_right(scores, name), _right(exact, name))
    return Estimate(100 * (scores[name] - exact[name]), 100 * low, 100 * high)
