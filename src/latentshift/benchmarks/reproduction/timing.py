"""Seconds a training step and a video of each rung, in turns, so that their ratios hold on a busy machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from latentshift.benchmarks.timing import interleaved_seconds
from latentshift.benchmarks.train import training_step
from latentshift.diffusion.samplers import make_sampler
from latentshift.files import atomic_write_text
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.recipe import VideoRecipe
from latentshift.user_input.bounded_read import load_json_bounded

_PROMPT = "a red star circling on a navy background"


def time_rungs(
    file: Path,
    recipes: Sequence[VideoRecipe],
    *,
    rounds: int,
    steps: int,
    sampler: str | None,
    device: str,
    dtype: torch.dtype,
) -> dict[str, dict[str, list[float]]]:
    """Wall-clock seconds by rung: ``step`` and ``video``, one value a round; kept in a file, and not measured twice.

    Args:
        file: where they are kept, with what they were measured of.
        recipes: of trained runs, whose folder's name is the rung's.
        rounds: that are timed after one of warm-up.
        steps: of the sampler.
        sampler: its name; None: the model's.
        device: where videos are made; steps are taken on the recipe's device.
        dtype: of videos.
    """
    names = [recipe.output.name for recipe in recipes]
    settings = {
        "rungs": names,
        "rounds": rounds,
        "steps": steps,
        "sampler": sampler,
        "device": device,
        "dtype": str(dtype),
        "threads": torch.get_num_threads(),
    }
    if file.exists():
        kept = load_json_bounded(file)
        if isinstance(kept, dict) and kept.get("settings") == settings:
            return dict(kept["seconds"])
    step = interleaved_seconds([training_step(each)[0] for each in recipes], rounds, time.perf_counter)
    videos = [_video_call(each.output / "model", steps, sampler, device, dtype) for each in recipes]
    video = interleaved_seconds(videos, rounds, time.perf_counter)
    seconds = {name: {"step": step[index], "video": video[index]} for index, name in enumerate(names)}
    atomic_write_text(file, json.dumps({"settings": settings, "seconds": seconds}, indent=1) + "\n")
    return seconds


def _video_call(model: Path, steps: int, sampler: str | None, device: str, dtype: torch.dtype) -> Callable[[int], Any]:
    pipeline = LatentShiftPipeline.from_pretrained(model, dtype=dtype).to(device)
    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)

    def make(number: int) -> None:
        pipeline(_PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(number))
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return make
