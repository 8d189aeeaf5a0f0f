"""``latentshift bench one-clip``: what tuning on one sprites clip has taught."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED, read_frame_rate, read_video_size

_QUICK_VIDEOS, _QUICK_STEPS = 1, 2


def one_clip(
    clip: Path = typer.Argument(..., help="The clip of the sprites world that the LoRA was trained on."),
    prompt: str = typer.Option(..., "--prompt", help='Its caption, as "a red star … on a navy background".'),
    others: list[str] = typer.Option(
        ..., "--other", help="A prompt that the motion is to be given to. May be given several times."
    ),
    lora: str = typer.Option(..., "--lora", metavar="FILE[:WEIGHT]", help="What training on the clip gave."),
    model: str = typer.Option(BUNDLED, "--model", help="The model that the LoRA is of: bundled, or a folder."),
    output: Path = typer.Option(Path("outputs/one-clip"), "--output", "-o", help="Folder of what was measured."),
    videos: int = typer.Option(8, "--videos", min=1, help="Of each row."),
    steps: int = typer.Option(25, "--steps", help="Sampling steps."),
    guidance: float | None = GUIDANCE,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """Whether a model tuned on one sprites clip gives it back, and gives its motion to other things.

    Each prompt by the model without the LoRA and with it: distance of the thing's path to the clip's, and whether
    colour, thing and background are those of the prompt. The same command resumes.
    """
    from latentshift.cli.preflight import check_adapters, check_generation
    from latentshift.data.footage.named_clip import check_named_clip, read_named_clip
    from latentshift.evaluation.sprites.prompt_looks import looks_of
    from latentshift.video.cut import Cut

    steps, videos = (_QUICK_STEPS, _QUICK_VIDEOS) if quick else (steps, videos)
    folder = check_generation(model, device, dtype, None, steps, guidance)
    if folder is None:
        raise ValueError(f"bench one-clip is for models of the sprites world, and {model} is no folder")
    for each in (prompt, *others):
        looks_of(each)
    check_named_clip(clip, None)
    frames, side = read_video_size(folder)
    if frames is None or side is None:
        raise ValueError(f"{model} does not say how many frames of which size its videos have")
    check_adapters([lora], None, model, None)
    check_writable(output / "settings.json")
    shown = read_named_clip(clip, frames, read_frame_rate(folder) or 8.0, Cut(side, side))
    if len(shown) == 1 and frames > 1:
        raise ValueError(f"{clip} is one picture: give the clip that the LoRA was trained on")

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.one_clip import bench_one_clip
        from latentshift.cli.models import load_adapted, pick_device

        picked = pick_device(device)
        for name, adapters in (("untuned", []), ("tuned", [lora])):
            pipeline = load_adapted(model, picked, dtype, adapters)
            yield from bench_one_clip(pipeline, name, shown, [prompt, *others], output, videos, steps, guidance)

    report_rows("one-clip", rows, json_file)
