"""``latentshift bench keyframes``: what known frames do to the videos of a sprites model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench_report import report_rows
from latentshift.files import check_writable
from latentshift.model_paths import BUNDLED

_QUICK_VIDEOS, _QUICK_STEPS = 2, 5
_MODEL = typer.Argument(BUNDLED, help="The bundled model, or the folder of a model trained on sprites.")
_LORA = typer.Option(None, "--lora", metavar="FILE[:WEIGHT]", help="As in generate.")
_GUIDANCE = typer.Option(None, "--guidance", help="Guidance scale. Default: the model's.")
_SAMPLER = typer.Option("dpm++", "--sampler", help="As in generate.")
_DEVICE = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, …")
_DTYPE = typer.Option("auto", "--dtype", help="auto, float32, bfloat16 or float16.")
_QUICK = typer.Option(False, "--quick", help="As little as shows that it works: the figures mean less.")
_JSON = typer.Option(None, "--json", help="Also write the rows as JSON.")


def keyframes(
    model: str = _MODEL,
    lora: list[str] | None = _LORA,
    output: Path = typer.Option(Path("outputs/keyframes"), "--output", "-o", help="Folder of what was measured."),
    videos: int = typer.Option(32, "--videos", min=1, help="Of each row."),
    steps: int = typer.Option(25, "--steps", help="Sampling steps."),
    guidance: float | None = _GUIDANCE,
    sampler: str = _SAMPLER,
    device: str = _DEVICE,
    dtype: str = _DTYPE,
    quick: bool = _QUICK,
    json_file: Path | None = _JSON,
) -> None:
    """How far keyframes reach in sprites videos: place, colour and motion of the thing beside them.

    The first frame, the first and the last, and the first with the thing in another colour than the prompt says, each
    not given, seen as noisy as the other frames, and seen clean. The same command resumes.
    """
    from latentshift.cli.preflight import check_adapters, check_generation

    steps, videos = (_QUICK_STEPS, min(videos, _QUICK_VIDEOS)) if quick else (steps, videos)
    check_generation(model, device, dtype, sampler, steps, guidance)
    check_adapters(lora or [], None, model, None)
    check_writable(output / "settings.json")

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.keyframes import bench_keyframes
        from latentshift.cli.models import load_adapted, pick_device
        from latentshift.diffusion.samplers import make_sampler

        pipeline = load_adapted(model, pick_device(device), dtype, lora or [])
        pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
        return bench_keyframes(pipeline, output, videos, steps, guidance)

    report_rows("keyframes", rows, json_file)
