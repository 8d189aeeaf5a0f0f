"""``latentshift bench length``: time and memory of long videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli import comparison
from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.cli.preflight import check_device_name, check_dtype_name
from latentshift.cli.shared_options import DEVICE, DTYPE
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.settings import check_skip_offload

_LENGTHS, _QUICK_LENGTHS = "16,64,256,1024", "2,6"


def length(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    frames: str | None = typer.Option(
        None, "--frames", help=f"Numbers of frames, with commas. Default: {_LENGTHS}; with --quick {_QUICK_LENGTHS}."
    ),
    frame_chunk: int | None = typer.Option(
        None, "--frame-chunk", help="Frames in one call of the U-Net. Default: 16; with --quick 2."
    ),
    offload_skips: bool = typer.Option(
        False, "--offload-skips", help="Keep skip connections of videos in chunks in CPU memory."
    ),
    at_once: int = typer.Option(64, "--at-once", help="Videos of up to this many frames are also made at once."),
    paddings: str = typer.Option("zeros,circular", "--paddings", help="Some of zeros, replicate, circular."),
    steps: int = typer.Option(2, "--steps", min=1, help="Steps that are timed of each video, after a first one."),
    rounds: int = comparison.ROUNDS,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """Time and memory of videos of more and more frames, through the U-Net at once and in chunks.

    Each video in a process of its own, from text to file, in turns; beside them the memory that is expected of a pass,
    and the difference to the video made at once.
    """
    from latentshift.benchmarks.length_settings import LengthSettings, check_length, parse_lengths, parse_paddings

    lengths = parse_lengths(frames or (_QUICK_LENGTHS if quick else _LENGTHS))
    chunk = (2 if quick else 16) if frame_chunk is None else frame_chunk
    check_length(model, lengths, chunk, rounds)
    padded = parse_paddings(paddings)
    check_device_name(device)
    if offload_skips:
        check_skip_offload(device, chunk, max(lengths), "--offload-skips")
    check_dtype_name(dtype)

    def rows() -> Iterable[dict[str, Any]]:
        import torch

        from latentshift.benchmarks.length import bench_length
        from latentshift.cli.models import load_dtype, pick_device

        picked = pick_device(device)
        if offload_skips:
            check_skip_offload(picked.split(":")[0], chunk, max(lengths), "--offload-skips")
        settings = LengthSettings(
            model=model,
            frames=lengths,
            chunk=chunk,
            at_once=at_once,
            paddings=padded,
            steps=1 if quick else steps,
            rounds=1 if quick else rounds,
            device=picked,
            dtype=str(load_dtype(dtype, picked)).removeprefix("torch."),
            threads=torch.get_num_threads(),
            offload_skips=offload_skips,
        )
        return bench_length(settings)

    report_rows("length", rows, json_file)
