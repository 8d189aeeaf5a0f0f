"""The tables and plots of a sprites study: shares, motion by motion, and how steady the colours are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from latentshift.document.blocks import Block, Heading, Paragraph
from latentshift.document.numbers import percent
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.page_warnings import PageWarnings
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import name_in_part
from latentshift.evaluation.report.sprites.parts import MeanScore, PartScores, StudyPart
from latentshift.evaluation.report.sprites.words import SHARES, STEADINESS, TRUE_CLIPS, part_title, videos_of


def shares(parts: Sequence[StudyPart], result: Result, warnings: PageWarnings) -> Iterator[Block]:
    """How often each attribute was right."""
    yield Heading("How often it was right")
    rows = [_share_row(part_title(part), part, result, warnings) for part in parts]
    for part in parts:
        if part.part.name in ("seen", "images"):
            what = videos_of(part)
            rows.append(_share_row(f"Reader on true {what}", part.reader_on_true_clips, None, warnings))
            if "through_autoencoder" in part.true_clips:
                through = part.true_clips["through_autoencoder"]
                rows.append(_share_row(f"Reader on autoencoded true {what}", through, None, warnings))
    yield Table("shares", "Shares that are right", ("in %", *SHARES.values(), "N"), tuple(rows))
    for part in parts[:2]:
        plotted = tuple(
            PlotRow(name, 100 * share, percent(part.interval(key)), marks=_marks(result, warnings, name, part))
            for key, name in SHARES.items()
            if (share := part.share(key)) is not None
        )
        yield Plot(f"shares-{part.part.name}", f"{part_title(part)}: share right", plotted, "%", end=100.0)


def motions(parts: Sequence[StudyPart], result: Result, warnings: PageWarnings) -> Iterator[Block]:
    """How often the motion was right, for each motion that was asked for."""
    with_motions = [part for part in parts if part.motions and part.part.shift]
    if not with_motions:
        return
    yield Heading("Motion by motion")
    yield Paragraph("How often the motion was right, among the videos that were asked to move so.")
    first = with_motions[0]
    marks = _marks(result, warnings, SHARES["motion"], first)
    plotted = tuple(
        PlotRow(name, 100 * scores.motion, percent(scores.interval("motion")), note=f"N = {scores.n:,}", marks=marks)
        for name, scores in first.motions.items()
        if scores.motion is not None
    )
    yield Plot("motions", f"{part_title(first)}: motion right", plotted, "%", end=100.0)
    names = dict.fromkeys(name for part in with_motions for name in part.motions)
    columns = [words for part in with_motions for words in (f"{part_title(part)}: % right", "N")]
    rows = tuple(
        (Cell(name), *(cell for part in with_motions for cell in _motion_cells(part, name, result, warnings)))
        for name in names
    )
    yield Table("motions", "Motions", ("Motion", *columns), rows)


def motions_compared(studies: Sequence[tuple[Result, Sequence[StudyPart]]], warnings: PageWarnings) -> Iterator[Block]:
    """A row for each motion, and a column for each study, of the part that all of them have first."""
    moving = [(result, [part for part in parts if part.motions and part.part.shift]) for result, parts in studies]
    common = [
        each.part.name for each in moving[0][1] if all(each.part.name in _names(parts) for _, parts in moving[1:])
    ]
    if not common:
        return
    chosen = [(result, parts[_names(parts).index(common[0])]) for result, parts in moving]
    columns = [words for result, _ in chosen for words in (f"{result.label}: % right", "N")]
    names = dict.fromkeys(name for _, part in chosen for name in part.motions)
    rows = tuple(
        (Cell(name), *(cell for result, part in chosen for cell in _motion_cells(part, name, result, warnings)))
        for name in names
    )
    yield Table("motions", f"Motions, {part_title(chosen[0][1]).lower()}", ("Motion", *columns), rows)


def _names(parts: Sequence[StudyPart]) -> list[str]:
    return [part.part.name for part in parts]


def steadiness(parts: Sequence[StudyPart], result: Result, warnings: PageWarnings) -> Iterator[Block]:
    """Colour drift and frame flicker beside those of true clips."""
    lines = list(_steadiness_lines(parts))
    if not lines:
        return
    yield Heading("How steady the colours are")
    yield Paragraph(
        "A thing of one colour should keep it. The true clips do. What the autoencoder adds no model can be expected "
        "to take away, so compare the model with the autoencoded true clips."
    )
    for key, name in STEADINESS.items():
        plotted = tuple(
            PlotRow(title, mean.mean, mean.interval, kind, marks=_anchor_and_marks(name, scores, result, warnings)[1])
            for title, scores, kind in lines
            if (mean := getattr(scores, key)) is not None and mean.mean is not None
        )
        if plotted:
            yield Plot(key.replace("_", "-"), f"{name.capitalize()} (green: true clips)", plotted, "levels")
    columns = ("in levels of 0 … 255", *(f"{name} ↓" for name in STEADINESS.values()), "N", "nothing to measure in")
    rows = tuple(
        _steadiness_row(title, scores, result if kind == "own" else None, warnings) for title, scores, kind in lines
    )
    yield Table("steadiness", "Colour drift and frame flicker", columns, rows)


def _share_row(title: str, scores: PartScores, result: Result | None, warnings: PageWarnings) -> tuple[Cell, ...]:
    """``result`` is as for :func:`_steadiness_row`."""
    cells = []
    for key, name in SHARES.items():
        share = scores.share(key)
        value = None if share is None else 100 * share
        anchor, marks = _anchor_and_marks(name, scores, result, warnings)
        cells.append(number_cell(value, percent(scores.interval(key)), "%", anchor=anchor, marks=marks))
    return Cell(title), *cells, _count(scores.n)


def _motion_cells(part: StudyPart, name: str, result: Result, warnings: PageWarnings) -> tuple[Cell, Cell]:
    scores = part.motions.get(name)
    if scores is None or scores.motion is None:
        return Cell(), Cell()
    marks = _marks(result, warnings, SHARES["motion"], part)
    return number_cell(100 * scores.motion, percent(scores.interval("motion")), "%", marks=marks), _count(scores.n)


def _marks(result: Result, warnings: PageWarnings, name: str, part: StudyPart) -> tuple[int, ...]:
    return warnings.marks(result.label, name_in_part(name, part.part.name))


def _anchor_and_marks(
    name: str, scores: PartScores, result: Result | None, warnings: PageWarnings
) -> tuple[str, tuple[int, ...]]:
    if result is None or not isinstance(scores, StudyPart):
        return "", ()
    return result.anchor, _marks(result, warnings, name, scores)


def _steadiness_lines(parts: Sequence[StudyPart]) -> Iterator[tuple[str, PartScores, Literal["own", "reference"]]]:
    for part in parts:
        if part.colour_drift is None:
            continue
        yield part_title(part), part, "own"
        if part.part.shift:
            for kind, scores in part.true_clips.items():
                yield f"{TRUE_CLIPS[kind]}, {part_title(part).lower()}", scores, "reference"


def _steadiness_row(title: str, scores: PartScores, result: Result | None, warnings: PageWarnings) -> tuple[Cell, ...]:
    """``result`` is whose part it is; None of true clips, which have no settings and no warnings."""
    cells = []
    for key, name in STEADINESS.items():
        mean: MeanScore | None = getattr(scores, key)
        anchor, marks = _anchor_and_marks(name, scores, result, warnings)
        cells.append(
            Cell() if mean is None else number_cell(mean.mean, mean.interval, "levels", anchor=anchor, marks=marks)
        )
    drift = scores.colour_drift
    return Cell(title), *cells, *((Cell(), Cell()) if drift is None else (_count(drift.n), _count(drift.missing)))


def _count(n: int) -> Cell:
    return Cell(f"{n:,}", n)
