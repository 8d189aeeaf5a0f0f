"""``latentshift bench generate``: a U-Net pass and a video of ours and of peers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.benchmarks.generation.settings import EAGER, RUNTIMES, check_runtimes_device, parse_runtimes
from latentshift.cli import comparison
from latentshift.cli.bench.common import JSON, report_rows
from latentshift.cli.own_command import own_command
from latentshift.cli.shared_options import DEVICE, DTYPE
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.benchmarks.generation.settings import GenerationSettings


def generate(
    base: str = typer.Argument(BUNDLED, help=comparison.BASE_HELP),
    models: str | None = comparison.MODELS,
    frames: int | None = comparison.FRAMES,
    size: int | None = comparison.SIZE,
    steps: int = comparison.STEPS,
    guidance: float | None = comparison.GUIDANCE,
    videos: int = typer.Option(1, "--videos", help="Videos made at once, by one call."),
    rounds: int = comparison.ROUNDS,
    whole: bool | None = comparison.WHOLE,
    device: str = DEVICE,
    dtype: str = DTYPE,
    runtimes: str | None = typer.Option(
        None,
        "--runtimes",
        help=f"Runtimes that Latent-Shift is also exported for and timed in, on the CPU: {', '.join(RUNTIMES)}, with "
        "commas, or none. Default: those that are installed; with --quick none.",
    ),
    quick: bool = comparison.QUICK,
    json_file: Path | None = JSON,
    report_folder: Path | None = typer.Option(
        None, "--report", help="Also write report.md, report.html, tables and SVG plots into this folder."
    ),
) -> None:
    """Compare video models by cost: 2-D, naive shift, Latent-Shift and exports, Latent-VDM, AnimateDiff, ModelScope.

    Each in processes of its own, in turns: parameters, operations, first and later times with their spread, share of
    the device's peak, time by kind of operator, and peak memory; and cold and warm start of a saved model.
    """
    settings = comparison.check_settings(
        base,
        models,
        EAGER,
        frames=frames,
        steps=steps,
        guidance=guidance,
        rounds=rounds,
        whole=whole,
        device=device,
        dtype=dtype,
        quick=quick,
        videos=videos,
        size=size,
    )

    asked = None if runtimes is None else parse_runtimes(runtimes)
    if asked and device != "auto":  # which is known once libraries are loaded
        check_runtimes_device(asked, device)
    if report_folder is not None:
        _check_report_folder(report_folder)
    complete: list[GenerationSettings] = []

    def rows() -> Iterable[dict[str, Any]]:
        from dataclasses import replace

        from latentshift.benchmarks.generation.bench import bench_generate
        from latentshift.benchmarks.generation.exported_models import with_runtimes
        from latentshift.benchmarks.generation.memory_needed import leave_out_models

        everything = with_runtimes(replace(settings(), profile=True), asked, quick=quick)
        complete.append(leave_out_models(everything))
        return bench_generate(complete[0])

    kept = report_rows("generate", rows, json_file)
    if report_folder is not None:
        from latentshift.benchmarks.generation.page import write_generation_pages

        command = own_command(complete[0].dtype)
        typer.echo(printable(write_generation_pages(report_folder, complete[0], kept, command), 4096))


def _check_report_folder(folder: Path) -> None:
    from latentshift.evaluation.report.schema import FILE_NAME

    check_writable(folder / "report.html")
    if (folder / FILE_NAME).exists():
        raise ValueError(f"{folder} holds a result of evaluate, whose pages would be overwritten: name another folder")
