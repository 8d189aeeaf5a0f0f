"""``latentshift bench captions``: how much a sprites model listens to its caption, by timestep."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.shared_options import DEVICE, DTYPE
from latentshift.models.storage.model_paths import BUNDLED, is_run_without_model, read_video_size
from latentshift.user_input.error_text import printable

_CLIPS, _QUICK_CLIPS = 48, 4


def captions(
    model: str = typer.Argument(
        BUNDLED,
        help="The bundled model, or the folder of a model trained on sprites or of its run. A video run that has made "
        "no model yet is measured at its newest checkpoint.",
    ),
    exchange: str = typer.Option(
        "motion",
        "--exchange",
        help="Which word of the caption is exchanged for another: motion, colour, thing or background.",
    ),
    motions: str | None = typer.Option(
        None, "--motions", help='Motions of the clips, with commas, as "spinning,standing still". Default: all.'
    ),
    clips: int | None = typer.Option(
        None, "--clips", min=2, max=4096, help=f"Of the sprites world. Default: {_CLIPS}, with --quick {_QUICK_CLIPS}."
    ),
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """How much a sprites model listens to a word of its caption, by timestep.

    Unseen clips are noised, and the clean latents predicted with their own caption and with one whose motion (or
    colour, …) is another. Errors are relative to the latents' variance, and the gap is how much the other word adds,
    with its 95 % interval over clips. A gap says that the word acts; whether a video is right, evaluate sprites says.
    """
    from latentshift.benchmarks.caption_exchange import check_exchange, check_frames, check_motions  # which needs numpy
    from latentshift.cli.preflight import check_device_name, check_dtype_name, check_generation

    check_exchange(exchange)
    options: dict[str, Any] = {"exchange": exchange}
    if motions is not None:
        options["motions"] = [" ".join(each.split()) for each in motions.split(",") if each.strip()]
        check_motions(options["motions"])
    is_unfinished = is_run_without_model(model)
    if is_unfinished:
        check_device_name(device)
        check_dtype_name(dtype)
    else:
        folder = check_generation(model, device, dtype, None, None, None)
        if folder is None:
            raise ValueError(f"bench captions is for models of the sprites world, and {model} is no folder")
        frames, _ = read_video_size(folder)
        if frames is not None:
            check_frames(frames)
    count = clips or (_QUICK_CLIPS if quick else _CLIPS)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.captions import bench_captions
        from latentshift.cli.models import load_dtype, load_pipeline, pick_device

        on = pick_device(device)
        if not is_unfinished:
            return bench_captions(load_pipeline(model, on, dtype), count, **options)
        from latentshift.training.models.video_model import open_checkpoint

        pipeline, step = open_checkpoint(Path(model))
        print(
            f"measuring the averaged weights of step {step} of {printable(model)}, its newest checkpoint",
            file=sys.stderr,
        )
        return bench_captions(pipeline.to(on, load_dtype(dtype, on)), count, **options)

    report_rows("captions", rows, json_file)
