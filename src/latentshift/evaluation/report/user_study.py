"""Table 3 of the paper with rows of one's own user studies: shares by majority, with their intervals.

Also what ``study result`` writes for it: :func:`to_user_study` makes it of the ``report.json`` of a study's result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentshift.document.blocks import Facts
from latentshift.document.numbers import percent
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.paper_tables import PAPER, TABLE_3, Cited, CitedRow
from latentshift.evaluation.report.schema import FILE_NAME
from latentshift.user_input.error_text import format_validation_error

FORMAT: Literal["latentshift-study/1"] = "latentshift-study/1"
_RIVAL = "CogVideo"  # of all rows of the paper's table


class Majority(Protocol):
    """One question about one pair of systems; see :class:`latentshift.study.result.PairResult`."""

    @property
    def question(self) -> str: ...
    @property
    def first(self) -> str: ...
    @property
    def second(self) -> str: ...
    @property
    def first_wins(self) -> int: ...
    @property
    def second_wins(self) -> int: ...
    @property
    def share(self) -> float | None: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...


@dataclass(frozen=True)
class StudyShares:
    """The shares of one study.

    Attributes:
        source: what the table calls it.
        questions: their names.
        raters_each: raters of a comparison.
        majority: for each question and pair of systems.
        anchor: of its settings on the page; empty for none.
        marks: of the page's warnings about it.
    """

    source: str
    questions: tuple[str, ...]
    raters_each: int
    majority: Sequence[Majority]
    anchor: str = ""
    marks: tuple[int, ...] = ()


def share_table(studies: Sequence[StudyShares], name: str, title: str) -> Table:
    """A row for each pair of systems of each study, a column for each question, and the paper's rows as cited."""
    questions = list(dict.fromkeys(each for study in studies for each in study.questions))
    rows = []
    for study in studies:
        row_of = {(row.first, row.second, row.question): row for row in study.majority}
        for one, two in dict.fromkeys((row.first, row.second) for row in study.majority):
            of_pair = [row_of.get((one, two, question)) for question in questions]
            decided = ", ".join("–" if row is None else f"{row.first_wins + row.second_wins:,}" for row in of_pair)
            cells = [_share(row, study.anchor) for row in of_pair]
            rows.append((Cell(f"{one} over {two}", marks=study.marks), *cells, Cell(decided), Cell(study.source)))
    for cited in TABLE_3.rows:
        values = [_cited(cited, question) for question in questions]
        cells = [Cell() if value is None else number_cell(value.value, unit="%") for value in values]
        rows.append((Cell(f"{cited.method} over {_RIVAL}"), *cells, Cell("–"), Cell(f"cited: {PAPER}")))
    raters = " or ".join(str(each) for each in sorted({study.raters_each for study in studies}))
    return Table(
        name,
        title,
        ("Comparison", *(f"{question} (%)" for question in questions), "Decided", "Source"),
        tuple(rows),
        (
            f"A comparison is decided where more than half of its {raters} raters chose one system, for each question "
            "on its own.",
            "Intervals are Wilson's of 95 %, over decided comparisons.",
            *TABLE_3.notes,
            "Other videos, prompts and raters than here; no interval is published.",
        ),
    )


def share_plots(studies: Sequence[StudyShares]) -> Iterator[Plot]:
    """A plot of each question that has a share; the rows of several studies have its number, and its source behind."""
    questions = dict.fromkeys(each for study in studies for each in study.questions)
    several = len(studies) > 1
    for number, question in enumerate(questions, 1):
        rows = [
            PlotRow(
                f"{f'Study {place}, ' if several else ''}{row.first} over {row.second}",
                100 * row.share,
                percent(row.interval),
                note=study.source if several else "",
                marks=study.marks,
            )
            for place, study in enumerate(studies, 1)
            for row in study.majority
            if row.question == question and row.share is not None
        ]
        cited = [(row, value) for row in TABLE_3.rows if (value := _cited(row, question)) is not None]
        rows += [PlotRow(f"{row.method} over {_RIVAL}", value.value, kind="cited") for row, value in cited]
        if rows:
            grey = " (grey: cited)" if cited else ""
            yield Plot(f"share-{number}", f"{question}{grey}", tuple(rows), "%", bars=False, end=100)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Row(_Part):
    question: str
    first: str
    second: str
    first_wins: int = Field(ge=0)
    second_wins: int = Field(ge=0)
    share: float | None = Field(ge=0, le=1)
    interval: tuple[float, float] | None


class _Question(_Part):
    name: str
    text: str


class _Settings(_Part):
    raters_each: int = Field(ge=1)
    questions: tuple[_Question, ...]
    cant_tell: bool


class _Answers(_Part):
    given: int = Field(ge=0)
    wanted: int = Field(ge=0)
    comparisons: int = Field(ge=0)


class _Study(_Part):
    latentshift: str
    systems: tuple[str, ...]
    settings: _Settings
    answers: _Answers
    notes: tuple[str, ...]
    majority: tuple[_Row, ...]


@dataclass(frozen=True)
class UserStudy:
    """The result of a study, as a page of results shows it.

    Attributes:
        folder: of the result.
        shares: for the table.
        facts: what made them.
        notes: sentences that they must be read with.
    """

    folder: Path
    shares: StudyShares
    facts: Facts
    notes: tuple[str, ...]


def to_user_study(values: Any, folder: Path, anchor: str) -> UserStudy | None:
    """The result of a study; None if the ``report.json`` is of another kind.

    Args:
        values: what it holds (:func:`latentshift.evaluation.report.schema.read_report_values`).
        folder: as ``study result`` writes it.
        anchor: of its settings on the page.

    Raises:
        ValueError: if it is a study's and not as this version writes it; the message names the file.
    """
    path = folder / FILE_NAME
    if not isinstance(values, dict) or not {"majority", "votes"} <= values.keys():
        return None
    if values.get("format") != FORMAT:
        raise ValueError(f"{path} is a study's result by another version: run `latentshift study result` again")
    try:
        study = _Study.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path} is no study's result: {format_validation_error(error)}") from None
    questions = tuple(each.name for each in study.settings.questions)
    shares = StudyShares(f"study {folder}", questions, study.settings.raters_each, study.majority, anchor)
    return UserStudy(folder, shares, _facts(study, folder, anchor), study.notes)


def _facts(study: _Study, folder: Path, anchor: str) -> Facts:
    answers = study.answers
    items = (
        ("systems", ", ".join(study.systems)),
        *((each.name, each.text) for each in study.settings.questions),
        ("can't tell", "was a choice" if study.settings.cant_tell else "was no choice"),
        ("raters of each comparison", str(study.settings.raters_each)),
        ("answers", f"{answers.given:,} of {answers.wanted:,}, on {answers.comparisons:,} comparisons"),
        ("latentshift", study.latentshift),
        ("folder", str(folder)),
    )
    return Facts(f"Settings of the study {folder}", items, anchor)


def _share(row: Majority | None, anchor: str) -> Cell:
    if row is None or row.share is None:
        return Cell()
    return number_cell(100 * row.share, percent(row.interval), "%", anchor=anchor)


def _cited(row: CitedRow, question: str) -> Cited | None:
    """The paper's share for a question of this name, in %."""
    names = [column.name for column in TABLE_3.columns if question in column.metrics]
    return row.values[names[0]] if names else None
