"""``latentshift evaluate``: the sprites study of a model, as a table and as files."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.locate import BUNDLED

if TYPE_CHECKING:
    import numpy as np

_SHEET_ROWS = 16


def evaluate(
    model: str = typer.Argument(BUNDLED, help="The bundled model, or a folder with a model of the sprites world."),
    output: Path = typer.Option(Path("outputs/study"), "--output", "-o", help="Folder for readings, report, pictures."),
    seen: int = typer.Option(512, "--seen", help="Videos of (colour, thing, motion) triples that were trained on."),
    held_out: int = typer.Option(512, "--held-out", help="Videos of triples that were never trained on."),
    images: int = typer.Option(512, "--images", help="One-frame images."),
    shift_off: int = typer.Option(128, "--shift-off", help="Videos with the temporal shift switched off."),
    steps: int = typer.Option(100, "--steps", help="Steps of the sampler."),
    guidance: float | None = typer.Option(None, "--guidance", help="Guidance scale. Default: the model's own."),
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's own."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, …"),
    dtype: str = typer.Option("auto", "--dtype", help="auto, float32, bfloat16 or float16."),
) -> None:
    """Ask a model for sprites and read what it shows; the same command again goes on where it stopped."""
    import torch
    from tqdm import tqdm

    from latentshift.cli.models import load_pipeline, pick_device
    from latentshift.clip import frames_apart
    from latentshift.contact_sheet import contact_sheet
    from latentshift.diffusion.samplers import make_sampler
    from latentshift.evaluation.sprites_study import PARTS, questions, read_part, score_part, settle
    from latentshift.models.digest import model_digest
    from latentshift.video import as_clip, write_video
    from latentshift.whole import write_whole

    counts = {"seen": seen, "held_out": held_out, "images": images, "shift_off": shift_off}
    if min(counts.values()) < 0:
        raise ValueError("the number of videos of a part must be 0 or more")
    pipeline = load_pipeline(model, pick_device(device), dtype)
    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    shift = pipeline.config.shift
    scale = float(pipeline.config.guidance_scale) if guidance is None else guidance
    pipeline.check_inputs(["a"], 1, pipeline.sample_size, pipeline.sample_size, steps, scale, 1, "pil")
    settings = {
        "contents": model_digest(*pipeline.components.values()),
        "shift": shift,
        "frames": pipeline.config.num_frames,
        "steps": steps,
        "guidance": scale,
        "sampler": type(pipeline.scheduler).__name__,
        "device": pipeline.device.type,
        "dtype": str(pipeline.dtype),
    }
    settle(output, settings)
    report: dict[str, Any] = {"model": model, "settings": settings, "parts": []}
    for part in PARTS:
        count = counts[part.name]
        if not count:
            continue

        def generate(
            prompt: str, seed: int, num_frames: int | None = 1 if part.image else None, shifted: bool = part.shift
        ) -> np.ndarray:
            generator = torch.Generator().manual_seed(seed)
            with nullcontext() if shifted else frames_apart(pipeline.unet):
                (video,) = pipeline(
                    prompt,
                    num_frames=num_frames,
                    num_inference_steps=steps,
                    guidance_scale=scale,
                    generator=generator,
                    return_dict=False,
                )[0]
            return as_clip(video)

        size = pipeline.sample_size
        log = output / "readings" / f"{part.name}.jsonl"
        picture = output / f"{part.name}.png"
        first: list[np.ndarray] = []
        shown = min(_SHEET_ROWS, count)
        videos = read_part(part, count, size, generate, log)
        bar = tqdm(videos, total=count, desc=part.name, unit="video", disable=not sys.stderr.isatty())
        for index, video in enumerate(bar):
            if video is not None and index < shown:
                first.append(video)
        asked = questions(part, shown, size)
        if len(first) < shown and not picture.exists():  # an earlier run read some of them and was broken off
            first = [generate(prompt, seed) for _, prompt, seed in asked]
        if len(first) == shown:
            write_video(picture, contact_sheet(first, [prompt for _, prompt, _ in asked], columns=16)[None])
        scores = score_part(part, count, size, log)
        report["parts"].append(scores)
        print(_line(part.name, scores))
    write_whole(output / "report.json", json.dumps(report, indent=1) + "\n")
    print(output / "report.json")


def _line(name: str, scores: dict[str, Any]) -> str:
    def shares(of: dict[str, Any]) -> str:
        names = ("background", "colour", "motion", "thing", "joint")
        return "  ".join(f"{key} {100 * of[key]:.1f}" for key in names if of[key] is not None)

    reader = shares(scores["reader_on_true_clips"])
    return f"{name} ({scores['n']}): {shares(scores)} %\n  reader on true clips: {reader} %"
