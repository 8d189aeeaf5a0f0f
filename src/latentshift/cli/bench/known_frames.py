"""``latentshift bench keyframes`` and ``extension``: what known frames do to the videos of a sprites model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.files import check_writable
from latentshift.model_paths import BUNDLED

if TYPE_CHECKING:
    from latentshift.pipeline import LatentShiftPipeline

_QUICK_VIDEOS, _QUICK_STEPS = 2, 5
_MODEL = typer.Argument(BUNDLED, help="The bundled model, or the folder of a model trained on sprites.")
_LORA = typer.Option(None, "--lora", metavar="FILE[:WEIGHT]", help="As in generate.")
_SAMPLER = typer.Option("dpm++", "--sampler", help="As in generate.")


def keyframes(
    model: str = _MODEL,
    lora: list[str] | None = _LORA,
    output: Path = typer.Option(Path("outputs/keyframes"), "--output", "-o", help="Folder of what was measured."),
    videos: int = typer.Option(32, "--videos", min=1, help="Of each row."),
    steps: int = typer.Option(25, "--steps", help="Sampling steps."),
    guidance: float | None = GUIDANCE,
    sampler: str = _SAMPLER,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """How far keyframes reach in sprites videos: place, colour and motion of the thing beside them.

    The first frame, the first and the last, and the first with the thing in another colour than the prompt says, each
    not given, seen as noisy as the other frames, and seen clean. The same command resumes.
    """
    steps, videos = (_QUICK_STEPS, min(videos, _QUICK_VIDEOS)) if quick else (steps, videos)
    _check(model, lora, output, sampler, steps, guidance, device, dtype)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.keyframes import bench_keyframes

        return bench_keyframes(_load(model, lora, sampler, device, dtype), output, videos, steps, guidance)

    report_rows("keyframes", rows, json_file)


def extension(
    model: str = _MODEL,
    lora: list[str] | None = _LORA,
    output: Path = typer.Option(Path("outputs/extension"), "--output", "-o", help="Folder of what was measured."),
    overlaps: str = typer.Option("4,8", "--overlaps", help="Frames of overlap, with commas."),
    extensions: int = typer.Option(10, "--extensions", min=1, help="Of each video."),
    videos: int = typer.Option(8, "--videos", min=1, help="Of each row."),
    steps: int = typer.Option(25, "--steps", help="Sampling steps."),
    guidance: float | None = GUIDANCE,
    sampler: str = _SAMPLER,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """How colour, contrast and motion change as a sprites video goes on by an overlap, beside one long pass.

    Extensions see the overlap as noisy as the new frames, and clean. The same command resumes.
    """
    from latentshift.data.sprites import NUM_FRAMES
    from latentshift.settings import check_extension

    if quick:
        steps, videos, extensions = _QUICK_STEPS, min(videos, _QUICK_VIDEOS), min(extensions, 2)
    numbers = overlaps.split(",")
    if not all(each.strip().isdecimal() for each in numbers):
        raise ValueError(f"--overlaps must be numbers of frames with commas, as 4,8, not {overlaps!r}")
    chosen = tuple(dict.fromkeys(int(each) for each in numbers))
    for overlap in chosen:
        check_extension(extensions, overlap, NUM_FRAMES, options=True)
    _check(model, lora, output, sampler, steps, guidance, device, dtype)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.extension import bench_extension

        pipeline = _load(model, lora, sampler, device, dtype)
        return bench_extension(pipeline, output, chosen, videos, extensions, steps, guidance)

    report_rows("extension", rows, json_file)


def _check(
    model: str,
    lora: list[str] | None,
    output: Path,
    sampler: str,
    steps: int,
    guidance: float | None,
    device: str,
    dtype: str,
) -> None:
    from latentshift.cli.preflight import check_adapters, check_generation

    check_generation(model, device, dtype, sampler, steps, guidance)
    check_adapters(lora or [], None, model, None)
    check_writable(output / "settings.json")


def _load(model: str, lora: list[str] | None, sampler: str, device: str, dtype: str) -> LatentShiftPipeline:
    from latentshift.cli.models import load_adapted, pick_device
    from latentshift.diffusion.samplers import make_sampler

    pipeline = load_adapted(model, pick_device(device), dtype, lora or [])
    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    return pipeline
