"""``latentshift evaluate cost``: Table 4, on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from latentshift.benchmarks.generation.settings import OF_TABLE_4
from latentshift.cli import comparison
from latentshift.cli.evaluate.common import MAX_PATH
from latentshift.cli.own_command import own_command
from latentshift.cli.resumable import ends_cleanly
from latentshift.cli.shared_options import DEVICE, DTYPE
from latentshift.files import check_writable
from latentshift.user_input.error_text import printable


@ends_cleanly("what is timed")
def cost(
    base: str = typer.Argument("ldm", help=comparison.BASE_HELP),
    output: Path = typer.Option(Path("outputs/cost"), "--output", "-o", help="Folder for report.json and its pages."),
    models: str | None = comparison.MODELS,
    frames: int | None = comparison.FRAMES,
    size: int | None = comparison.SIZE,
    steps: int = comparison.STEPS,
    guidance: float | None = comparison.GUIDANCE,
    rounds: int = comparison.ROUNDS,
    whole: bool | None = comparison.WHOLE,
    device: str = DEVICE,
    dtype: str = DTYPE,
    quick: bool = comparison.QUICK,
) -> None:
    """Compare parameters by part and seconds a video with the peers', beside the paper's Table 4.

    The same command resumes an interrupted run.
    At the paper's size a pass takes many seconds on a CPU, and each of the models makes two or more a round.
    """
    complete_settings = comparison.check_settings(
        base,
        models,
        OF_TABLE_4,
        frames=frames,
        steps=steps,
        guidance=guidance,
        rounds=rounds,
        whole=whole,
        device=device,
        dtype=dtype,
        quick=quick,
        size=size,
    )
    check_writable(output / "report.json")
    from latentshift.cli.models import quiet_libraries

    quiet_libraries()
    from latentshift.benchmarks.generation.cost import GenerationCost, count_all, measure
    from latentshift.benchmarks.generation.cost_report import cost_report, cost_settings
    from latentshift.benchmarks.generation.kept_timings import FILE, KeptTimings
    from latentshift.benchmarks.generation.memory_needed import check_models
    from latentshift.benchmarks.generation.rows import count_rows, time_rows
    from latentshift.benchmarks.report import Result, table
    from latentshift.evaluation.report.pages import write_result_pages
    from latentshift.evaluation.report.schema import write_report
    from latentshift.evaluation.settings_file import check_or_write_settings

    settings = check_models(complete_settings())
    counts = count_all(settings)
    check_or_write_settings(output, cost_settings(settings, counts))
    measured: list[GenerationCost] = []

    def rows(kept: KeptTimings) -> Iterator[Result]:
        yield from count_rows(settings, counts)
        measured.append(measure(settings, kept=kept))
        yield from time_rows(counts, measured[0])

    with KeptTimings(output) as kept:
        if kept:
            path = printable(output / FILE, MAX_PATH)
            print(f"note: what {path} has is not timed again; delete the file to start anew", file=sys.stderr)
        for line in table(rows(kept)):
            print(line, flush=True)
    write_report(output, cost_report(counts, measured[0], own_command(settings.dtype)))
    print(printable(write_result_pages(output), MAX_PATH))
