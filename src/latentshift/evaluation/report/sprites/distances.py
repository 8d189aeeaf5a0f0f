"""The distances of a sprites study's videos to true clips: a table, a plot, and how each number was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latentshift.document.blocks import Block, Facts, Heading, Paragraph
from latentshift.document.numbers import ARROWS
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.own_numbers import how_made
from latentshift.evaluation.report.page_warnings import PageWarnings
from latentshift.evaluation.report.part_names import shown_name
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import name_in_part, name_without_part
from latentshift.evaluation.report.sprites.parts import StudyPart
from latentshift.evaluation.report.sprites.words import part_title

_PLOTTED = "sprites-FVD"


def distances(parts: Sequence[StudyPart], result: Result, warnings: PageWarnings) -> Iterator[Block]:
    """Metrics of extractors by part; nothing where there are none."""
    metrics = [metric for metric in result.report.metrics if metric.extractor is not None]
    if not metrics:
        return
    names = list(dict.fromkeys(name_without_part(metric.name) for metric in metrics))
    yield Heading("Distances to true clips")
    yield Paragraph(
        "How far the videos as a whole are from the true clips of the same prompts, by features of small networks that "
        "know the sprites world; 0 is no difference. Frames alone: FID, KID. With the motion: FVD, KVD."
    )
    rows = []
    for part in parts:
        metric_of = {name: result.report.metric(name_in_part(name, part.part.name)) for name in names}
        if any(metric_of.values()):
            cells = [
                Cell()
                if each is None
                else number_cell(
                    each.value, each.interval, anchor=result.anchor, marks=warnings.marks(result.label, each.name)
                )
                for each in metric_of.values()
            ]
            n = next(each.n for each in metric_of.values() if each is not None)
            rows.append((Cell(part_title(part)), *cells, Cell(f"{n:,}", n)))
    columns = ("Videos", *(f"{name}{ARROWS['lower']}" for name in names), "N")
    notes = (
        "Fréchet distances (FID, FVD) are larger for fewer videos: compare them at equal N alone. KID and KVD are "
        "right on average for any N.",
    )
    yield Table("distances", "Distances to the true clips of the same prompts", columns, tuple(rows), notes)
    plotted = tuple(
        PlotRow(
            part_title(part),
            metric.value,
            metric.interval,
            note=f"N = {metric.n:,}",
            marks=warnings.marks(result.label, metric.name),
        )
        for part in parts
        if (metric := result.report.metric(name_in_part(_PLOTTED, part.part.name))) is not None
    )
    if plotted:
        yield Plot("distances", f"{_PLOTTED}{ARROWS['lower']}", plotted)
    yield Facts(
        "How these distances were made",
        tuple((shown_name(metric.name), how_made(metric)) for metric in metrics),
        folded=True,
    )
