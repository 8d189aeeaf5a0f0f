"""``latentshift bench loops``: whether the last frame of a loop leads on to the first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED

_VIDEOS, _STEPS, _QUICK_VIDEOS, _QUICK_STEPS = 100, 25, 2, 2
_LEAST_FRAMES = 3


def loops(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    output: Path = typer.Option(Path("outputs/loops"), "--output", "-o", help="Folder of what was measured."),
    videos: int = typer.Option(_VIDEOS, "--videos", min=1, help="Of each padding."),
    frames: int | None = typer.Option(
        None, "--frames", help=f"Of each video, {_LEAST_FRAMES} or more. Default: the model's."
    ),
    paddings: str = typer.Option("circular,zeros", "--paddings", help="Some of zeros, replicate, circular."),
    steps: int | None = typer.Option(None, "--steps", min=1, help=f"Sampling steps. Default: {_STEPS}."),
    guidance: float | None = GUIDANCE,
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's."),
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """The step from the last frame to the first, beside the steps between the others, by the shift's padding.

    Steps are mean absolute differences in levels. Prompts and seeds are those of the sprites study. The same command
    resumes.
    """
    from latentshift.benchmarks.length_settings import parse_paddings
    from latentshift.cli.preflight import check_frame_count, check_generation

    padded = parse_paddings(paddings)
    if frames is not None:
        check_frame_count(frames)
        if frames < _LEAST_FRAMES:
            raise ValueError(f"--frames must be {_LEAST_FRAMES} or more for a loop to be compared, not {frames}")
    count = min(videos, _QUICK_VIDEOS) if quick else videos
    taken = (_QUICK_STEPS if quick else _STEPS) if steps is None else steps
    check_generation(model, device, dtype, sampler, taken, guidance, frames=frames)
    check_writable(output / "settings.json")

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.loops import bench_loops
        from latentshift.cli.models import load_sampling_pipeline

        pipeline = load_sampling_pipeline(model, device, dtype, sampler, False, [], None, None)
        return bench_loops(pipeline, output, padded, count, frames, taken, guidance)

    report_rows("loops", rows, json_file)
