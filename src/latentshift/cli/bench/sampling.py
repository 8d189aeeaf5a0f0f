"""``latentshift bench sampling``: what other ways to sample bring and cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.benchmarks.sampling_ways import DEFAULT_WAYS, parse_ways
from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.evaluate.sprites import MOST_VIDEOS
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED

_QUICK_WAYS = ("steps=2", "deep-cache=2", "guidance-interval=500:999")


def sampling(
    model: str = typer.Argument(BUNDLED, help="The bundled model, or the folder of a model trained on sprites."),
    output: Path = typer.Option(Path("outputs/sampling"), "--output", "-o", help="Folder of the studies."),
    way: list[str] | None = typer.Option(
        None,
        "--way",
        metavar='"OPTION=VALUE …"',
        help="Options of generate with their values: sampler, steps, guidance-interval, deep-cache, deep-cache-branch. "
        f"May be given several times. Default: {'; '.join(DEFAULT_WAYS)}.",
    ),
    exact: Path | None = typer.Option(
        None, "--exact", help="Study of evaluate sprites with the exact settings, to go on with. Default: in -o."
    ),
    videos: int | None = typer.Option(
        None, "--videos", min=1, max=MOST_VIDEOS, help="Of each way. Default: 256, with --quick 2."
    ),
    timed: int | None = typer.Option(
        None,
        "--timed",
        min=1,
        max=MOST_VIDEOS,
        help="Videos of each way whose time is taken, in turns. Default: 3, with --quick 1.",
    ),
    steps: int | None = typer.Option(
        None, "--steps", help="Of the exact result. Default: the model's, with --quick 4."
    ),
    guidance: float | None = GUIDANCE,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """Samplers, fewer steps and fewer operations beside the exact result: time, sprites scores, PSNR.

    It says too which lose no score by more than one point on 256 videos. The same command resumes, and more videos go
    on from fewer.
    """
    from latentshift.cli.preflight import check_generation

    ways = parse_ways(way or (_QUICK_WAYS if quick else None))
    steps = 4 if quick and steps is None else steps
    check_generation(model, device, dtype, None, steps, guidance)
    for each in ways:
        try:
            check_generation(model, device, dtype, each.sampler, each.steps or steps, guidance)
        except ValueError as error:
            raise ValueError(f'{error} (--way "{each.name}")') from None
    if guidance == 1 and any(each.fewer.guidance_interval for each in ways):
        raise ValueError("guidance-interval has no effect with --guidance 1: leave one of them out")
    if exact is not None and not (exact / "settings.json").is_file():
        raise ValueError(f"--exact: {exact} holds no study of evaluate sprites: it has no settings.json")
    check_writable(output / "settings.json")

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.sampling import SamplingSettings, bench_sampling
        from latentshift.cli.models import load_pipeline, pick_device

        pipeline = load_pipeline(model, pick_device(device), dtype)
        settings = SamplingSettings(
            model=model,
            ways=ways,
            output=output,
            exact=exact or output / "exact",
            videos=videos or (2 if quick else 256),
            timed=timed or (1 if quick else 3),
            steps=steps or pipeline.config.num_inference_steps,
            guidance=guidance,
        )
        return bench_sampling(pipeline, settings)

    report_rows("sampling", rows, json_file)
