"""``latentshift bench keyframes`` and ``extension``: what known frames do to the videos of a sprites model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED

if TYPE_CHECKING:
    from latentshift.pipeline import LatentShiftPipeline

_STEPS, _QUICK_VIDEOS, _QUICK_STEPS = 25, 2, 5
_GIVEN = ("first", "first and last", "every fifth")
_MODEL = typer.Argument(BUNDLED, help="The bundled model, or the folder of a model trained on sprites.")
_LORA = typer.Option(None, "--lora", metavar="FILE[:WEIGHT]", help="As in generate.")
_STEPS_OPTION = typer.Option(None, "--steps", help=f"Sampling steps. Default: {_STEPS}, with lcm and tcd 4.")
_SAMPLER = typer.Option("dpm++", "--sampler", help="As in generate.")


def keyframes(
    model: str = _MODEL,
    lora: list[str] | None = _LORA,
    output: Path = typer.Option(Path("outputs/keyframes"), "--output", "-o", help="Folder of what was measured."),
    videos: int = typer.Option(32, "--videos", min=1, help="Of each row."),
    given: str | None = typer.Option(
        None, "--given", metavar="NAME", help='Only these rows: "first", "first and last" or "every fifth".'
    ),
    steps: int | None = _STEPS_OPTION,
    guidance: float | None = GUIDANCE,
    sampler: str = _SAMPLER,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """How far keyframes reach in sprites videos: place, colour and motion of the thing beside them.

    The first frame, the first and the last, every fifth, and the first with the thing in another colour than the
    prompt says, each not given, seen as noisy as the other frames, and seen clean. The same command resumes.
    """
    if given not in (None, *_GIVEN):
        raise ValueError(f"--given must be one of {', '.join(_GIVEN)}, not {given!r}")
    videos = min(videos, _QUICK_VIDEOS) if quick else videos
    count, scale = _check(model, lora, output, sampler, steps, guidance, device, dtype, quick=quick)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.keyframes import bench_keyframes

        return bench_keyframes(_load(model, lora, sampler, device, dtype), output, videos, count, scale, given)

    report_rows("keyframes", rows, json_file)


def extension(
    model: str = _MODEL,
    lora: list[str] | None = _LORA,
    output: Path = typer.Option(Path("outputs/extension"), "--output", "-o", help="Folder of what was measured."),
    overlaps: str = typer.Option("4,8", "--overlaps", help="Frames of overlap, with commas."),
    extensions: int = typer.Option(10, "--extensions", min=1, help="Of each video."),
    videos: int = typer.Option(8, "--videos", min=1, help="Of each row."),
    steps: int | None = _STEPS_OPTION,
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
        videos, extensions = min(videos, _QUICK_VIDEOS), min(extensions, 2)
    numbers = overlaps.split(",")
    if not all(each.strip().isdecimal() for each in numbers):
        raise ValueError(f"--overlaps must be numbers of frames with commas, as 4,8, not {overlaps!r}")
    chosen = tuple(dict.fromkeys(int(each) for each in numbers))
    for overlap in chosen:
        check_extension(extensions, overlap, NUM_FRAMES, options=True)
    count, scale = _check(model, lora, output, sampler, steps, guidance, device, dtype, quick=quick)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.extension import bench_extension

        pipeline = _load(model, lora, sampler, device, dtype)
        return bench_extension(pipeline, output, chosen, videos, extensions, count, scale)

    report_rows("extension", rows, json_file)


def _check(
    model: str,
    lora: list[str] | None,
    output: Path,
    sampler: str,
    steps: int | None,
    guidance: float | None,
    device: str,
    dtype: str,
    *,
    quick: bool,
) -> tuple[int, float | None]:
    """Steps and guidance of the sampler, of what was asked for; without guidance None, the model's."""
    from latentshift.cli.preflight import check_adapters, check_generation
    from latentshift.diffusion.sampler_names import DISTILLED_SAMPLERS, default_guidance, default_steps

    distilled = sampler in DISTILLED_SAMPLERS
    if quick or steps is None:
        steps = default_steps(sampler, _STEPS) if distilled else _QUICK_STEPS if quick else _STEPS
    check_generation(model, device, dtype, sampler, steps, guidance, adapted=bool(lora))
    check_adapters(lora or [], None, model, None)
    check_writable(output / "settings.json")
    return steps, default_guidance(sampler, 0.0) if distilled and guidance is None else guidance


def _load(model: str, lora: list[str] | None, sampler: str, device: str, dtype: str) -> LatentShiftPipeline:
    from latentshift.cli.models import load_adapted, pick_device
    from latentshift.diffusion.samplers import make_sampler

    pipeline = load_adapted(model, pick_device(device), dtype, lora or [])
    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    return pipeline
