"""``latentshift evaluate``: evaluate a model on the sprites data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from latentshift.error_text import printable
from latentshift.files import check_writable
from latentshift.model_paths import BUNDLED


def evaluate(
    model: str = typer.Argument(BUNDLED, help="The bundled model, or the folder of a model trained on sprites."),
    variant: str | None = typer.Option(
        None, "--variant", help="Variant of the weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
    ),
    output: Path = typer.Option(
        Path("outputs/study"), "--output", "-o", help="Folder for readings, report and pictures."
    ),
    seen: int = typer.Option(
        512, "--seen", help="Number of videos of (colour, thing, motion) triples in the training set."
    ),
    held_out: int = typer.Option(512, "--held-out", help="Number of videos of held-out triples."),
    images: int = typer.Option(512, "--images", help="Number of single-frame images."),
    shift_off: int = typer.Option(128, "--shift-off", help="Number of videos with the temporal shift switched off."),
    steps: int = typer.Option(100, "--steps", help="Sampling steps."),
    guidance: float | None = typer.Option(None, "--guidance", help="Guidance scale. Default: the model's."),
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, …"),
    dtype: str = typer.Option("auto", "--dtype", help="auto, float32, bfloat16 or float16."),
) -> None:
    """Generate sprites and score them against the prompts; the same command resumes an interrupted evaluation."""
    from latentshift.cli.preflight import check_generation

    counts = {"seen": seen, "held_out": held_out, "images": images, "shift_off": shift_off}
    if min(counts.values()) < 0:
        raise ValueError("the number of videos of a part must be 0 or more")
    check_generation(model, device, dtype, sampler, steps, guidance)
    check_writable(output / "report.json")
    from latentshift.cli.models import load_pipeline, pick_device

    pipeline = load_pipeline(model, pick_device(device), dtype, variant)
    from latentshift.diffusion.samplers import make_sampler
    from latentshift.evaluation.study import Study

    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    for part, scores in Study(pipeline, model, output, steps, guidance).scores(counts):
        print(_line(part, scores))
    print(printable(output / "report.json", 4096))


def _line(name: str, scores: dict[str, Any]) -> str:
    from latentshift.evaluation.study import SCORES

    def shares(of: dict[str, Any]) -> str:
        return "  ".join(f"{key} {100 * of[key]:.1f}" for key in SCORES if of[key] is not None)

    reader = shares(scores["reader_on_true_clips"])
    return f"{name} ({scores['n']}): {shares(scores)} %\n  reader on true clips: {reader} %"
