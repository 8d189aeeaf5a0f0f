"""The options that ``bench generate`` and ``evaluate cost`` share, and their checks before heavy imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from latentshift.benchmarks.generation.settings import (
    VIDEO_MODELS,
    check_base,
    check_comparison,
    parse_video_models,
)
from latentshift.cli.preflight import check_device_name, check_dtype_name
from latentshift.settings import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from latentshift.benchmarks.generation.settings import GenerationSettings

QUICK_STEPS = 10
_QUICK_SECONDS = 0.6

BASE_HELP = (
    f"The image model that all are built like, with random weights: {', '.join(FAMILIES)} (families at their published "
    "width; ldm is the paper's, sd1 Stable Diffusion 1.5), bundled, or the folder of a model."
)
MODELS = typer.Option(
    None, "--models", help=f"Some of {', '.join(VIDEO_MODELS)}, with commas; ratios are to the first."
)
FRAMES = typer.Option(None, "--frames", help="Frames of a video. Default: the model's, or the paper's 16.")
SIZE = typer.Option(None, "--size", help="Side of the frames in pixels. Default: the model's.")
STEPS = typer.Option(100, "--steps", help="Steps of the sampler, DDPM.")
GUIDANCE = typer.Option(None, "--guidance", help="Guidance scale; 1 halves a pass. Default: the model's, or 7.5.")
ROUNDS = typer.Option(3, "--rounds", help="How often all take turns.")
WHOLE = typer.Option(
    None,
    "--whole/--extrapolate",
    help="Make whole videos, or extrapolate from passes. Default: whole, except for a family at its published size.",
)
QUICK = typer.Option(
    False, "--quick", help=f"One round, and whole videos of {QUICK_STEPS} steps: the figures mean less."
)


def check_settings(
    base: str,
    models: str | None,
    defaults: tuple[str, ...],
    *,
    frames: int | None,
    steps: int,
    guidance: float | None,
    rounds: int,
    whole: bool | None,
    device: str,
    dtype: str,
    quick: bool,
    videos: int = 1,
    size: int | None = None,
) -> Callable[[], GenerationSettings]:
    """Check all options; the function that is returned imports libraries, and gives the settings.

    Raises:
        ValueError: for the first invalid option.
    """
    chosen = defaults if models is None else parse_video_models(models)
    check_base(base)
    check_comparison(chosen, frames, steps, guidance, rounds, videos)
    check_device_name(device)
    check_dtype_name(dtype)

    def complete_settings() -> GenerationSettings:
        from dataclasses import replace

        from latentshift.benchmarks.generation import cost
        from latentshift.cli.models import load_dtype, pick_device

        picked = pick_device(device)
        settings = cost.complete_settings(
            base,
            chosen,
            num_frames=frames,
            steps=steps,
            guidance=guidance,
            device=picked,
            dtype=str(load_dtype(dtype, picked)).removeprefix("torch."),
            rounds=1 if quick else rounds,
            whole=whole,
            videos=videos,
            size=size,
        )
        if not quick:
            return settings
        few = min(steps, QUICK_STEPS) if settings.whole else steps
        return replace(settings, steps=few, repeat_seconds=_QUICK_SECONDS)

    return complete_settings
