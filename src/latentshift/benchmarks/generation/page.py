"""The pages of ``bench generate``: its tables, and plots of seconds, of the device's peak and of where a pass goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from latentshift.benchmarks.generation.image_base import open_base
from latentshift.benchmarks.generation.operator_kinds import KINDS
from latentshift.benchmarks.generation.settings import VIDEO_MODELS, GenerationSettings
from latentshift.benchmarks.pages import value_plot, write_benchmark_pages
from latentshift.benchmarks.report import Result
from latentshift.document.plot import Plot, PlotRow

_OURS = "latent-shift"


def write_generation_pages(folder: Path, settings: GenerationSettings, rows: Sequence[Result], command: str) -> Path:
    """Write them into a folder; returns the path of ``report.html``.

    Args:
        folder: for all of them.
        settings: of the run.
        rows: of ``bench generate``.
        command: that made them.

    Raises:
        OSError: if they can't be written.
    """
    exported = "; ".join(str(row["export"]) for row in rows if "export" in row)
    also = f", and exports ({exported})" if exported else ""
    at_once = "" if settings.videos == 1 else f"{settings.videos} videos at once of "
    side = open_base(settings.base, settings.size).side
    lead = (
        f"{len(settings.models)} video models as wide as {settings.base}, with random weights{also}, in turns: "
        f"{at_once}{settings.num_frames} frames of {side}×{side} pixels, guidance {settings.guidance:g}, "
        f"{settings.dtype} on {settings.device}, {settings.threads} thread{'' if settings.threads == 1 else 's'}, "
        f"rounds: {settings.rounds}."
    )
    title = f"What a video of {settings.base} costs"
    return write_benchmark_pages(folder, title, lead, rows, list(_plots(settings, rows)), command)


def _plots(settings: GenerationSettings, rows: Sequence[Result]) -> Iterator[Plot]:
    own = VIDEO_MODELS[_OURS if _OURS in settings.models else settings.models[0]]
    for name, title, table, column, unit in (
        ("passes", "One pass of the U-Net", "one_pass", "later_s", "s"),
        ("videos", "A whole video", "whole_video", "seconds", "s"),
        ("peak", "Of the device's measured peak", "one_pass", "share_of_peak", "%"),
    ):
        plot = value_plot(name, title, [row for row in rows if table in row], column, unit, own)
        if plot is not None:
            yield plot
    for row in rows:
        if row.get("share_of_a_pass") == own:
            shares = ((kind, row[kind.replace(" ", "_")]) for kind in KINDS)
            bars = tuple(PlotRow(kind, 100 * value) for kind, value in shares if isinstance(value, float))
            yield Plot("kinds", f"Where a pass of {own} goes, by kind of operator", bars, "%")
