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
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """A step and decoding on the CPU with and without what makes them faster, in turns; and what the shift costs."""
    from latentshift.cli.preflight import check_model_files

    check_model_files(model, None)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.speed import bench_shift, bench_speed

        return bench_shift(model, quick) if shift_only else bench_speed(model, quick)

    report_rows("speed", rows, json_file)
