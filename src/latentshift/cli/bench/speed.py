"""``latentshift bench speed``: what each thing that makes sampling faster brings, and what the shift costs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench.common import JSON, QUICK, report_rows
from latentshift.models.storage.model_paths import BUNDLED


def speed(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    shift_only: bool = typer.Option(False, "--shift-only", help="Only what the shift costs, measured for longer."),
    compiled: bool = typer.Option(
        False, "--compiled", help="With --shift-only: also in compiled code, which is made anew for each row."
    ),
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """A step and decoding on the CPU with and without what makes them faster, in turns; and what the shift costs."""
    from latentshift.cli.preflight import check_model_files

    if compiled and not shift_only:
        raise typer.BadParameter(
            "needs --shift-only; without it the compiled U-Net is measured anyway", param_hint="--compiled"
        )
    check_model_files(model, None)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.speed import bench_shift, bench_speed

        return bench_shift(model, quick, compiled) if shift_only else bench_speed(model, quick)

    report_rows("speed", rows, json_file)
