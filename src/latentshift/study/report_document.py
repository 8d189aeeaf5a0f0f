"""A study's report as a document: its tables beside the paper's Table 3, plots, and what to read them with."""

from __future__ import annotations

import math
from collections.abc import Iterator

from latentshift.document.blocks import Block, Document, Facts, Heading, PageWarning, Paragraph
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report import user_study
from latentshift.study.report import StudyReport
from latentshift.study.result import VoteShare


def report_document(report: StudyReport) -> Document:
    """The whole report."""
    return Document(
        f"User study: {', '.join(report.systems)}",
        f"{len(report.raters):,} raters gave {report.given:,} of {report.wanted:,} answers on {report.comparisons:,} "
        f"comparisons, {report.settings.raters_each} raters each.",
        (
            Heading("Share by majority"),
            share_table(report),
            *user_study.share_plots([_shares(report)]),
            Heading("Agreement"),
            _agreement(report),
            Heading("Single votes"),
            _votes(report),
            *_strengths(report),
            Heading("Raters"),
            _raters(report),
            *_left(report),
            Heading("Settings"),
            _settings(report),
        ),
        tuple(map(PageWarning, report.notes)),
    )


def share_table(report: StudyReport) -> Table:
    """Table 3 of the paper: a row for each pair of systems, a column for each question, and the paper's rows."""
    return user_study.share_table(
        [_shares(report)], "share-by-majority", "Share of comparisons that the first system won by majority"
    )


def _shares(report: StudyReport) -> user_study.StudyShares:
    settings = report.settings
    names = tuple(question.name for question in settings.questions)
    marks = tuple(range(1, len(report.notes) + 1))
    return user_study.StudyShares("this study", names, settings.raters_each, report.majority, marks=marks)


def _agreement(report: StudyReport) -> Table:
    rows = [
        (
            Cell(f"{row.question}: {row.first} over {row.second}"),
            *map(_count, (row.first_wins, row.second_wins, row.undecided, row.incomplete)),
            _coefficient(row.kappa, row.kappa_interval),
            _coefficient(row.alpha, row.alpha_interval),
        )
        for row in report.majority
    ]
    return Table(
        "agreement",
        "Comparisons, and how far their raters agree",
        ("Question", "First won", "Second won", "Undecided", "Incomplete", "Fleiss' κ", "Krippendorff's α"),
        tuple(rows),
        (
            "1 is full agreement, 0 that of chance. κ is over complete comparisons, α over all answers.",
            "Intervals of 95 %: a bootstrap over comparisons; none for fewer than 10, or where nearly all votes are "
            "alike.",
            "Low agreement with a share near 50 % says that the systems are alike; with a clear share, that many "
            "comparisons are close.",
        ),
    )


def _votes(report: StudyReport) -> Table:
    attentive = {(row.question, row.first, row.second): row for row in report.votes_attentive}
    rows = []
    for row in report.votes:
        careful = attentive.get((row.question, row.first, row.second))
        rows.append(
            (
                Cell(f"{row.question}: {row.first} over {row.second}"),
                *map(_count, (row.first_votes, row.second_votes, row.neither)),
                _vote_share(row),
                _vote_share(careful),
                Cell(f"{0 if careful is None else careful.raters:,} of {row.raters:,}"),
            )
        )
    return Table(
        "single-votes",
        "Answers without a majority",
        ("Question", "First", "Second", "Can't tell", "Share (%)", "Of the attentive (%)", "Attentive raters"),
        tuple(rows),
        (
            "Attentive raters failed no attention check with a broken twin.",
            "Answers of one rater are not independent, so these shares have no interval.",
        ),
    )


def _strengths(report: StudyReport) -> Iterator[Block]:
    if not report.strengths:
        return
    yield Heading("Strength of each system")
    rows = []
    for question, strengths in report.strengths.items():
        if isinstance(strengths, str):
            yield Paragraph(f"{question}: {strengths}.")
            continue
        intervals = report.strength_intervals.get(question, {})
        for name, strength in sorted(strengths.items(), key=lambda each: -each[1]):
            bounds = intervals.get(name)
            detail = "" if bounds is None else f"{bounds[0]:+.2f} … {bounds[1]:+.2f}"
            wins = number_cell(_wins(strength), bounds and (_wins(bounds[0]), _wins(bounds[1])), "%")
            rows.append((Cell(f"{question}: {name}"), Cell(f"{strength:+.2f}", strength, bounds, detail), wins))
    if rows:
        yield Table(
            "strengths",
            "Bradley and Terry's log strengths, with mean 0",
            ("System", "Log strength", "Wins against strength 0 (%)"),
            tuple(rows),
            (
                'By single votes; "can\'t tell" is half a win for each.',
                "Intervals of 95 %: a bootstrap over prompts; none for fewer than 10, or where those drawn leave "
                "a system without a win.",
            ),
        )


def _wins(strength: float) -> float:
    """In %, against a system of log strength 0."""
    return 100 / (1 + math.exp(-strength))


def _raters(report: StudyReport) -> Table:
    rows = [
        (
            Cell(f"rater {rater}"),
            _count(pairs),
            Cell(f"{checks.broken_passed} of {checks.broken_shown}"),
            Cell(f"{checks.identical_passed} of {checks.identical_shown}" if report.settings.cant_tell else "–"),
        )
        for rater, (pairs, checks) in sorted(report.raters.items(), key=lambda each: -each[1][0])
    ]
    return Table(
        "raters",
        "Pairs answered, and attention checks passed",
        ("Rater", "Pairs", "Broken twin", "One clip twice"),
        tuple(rows),
        (
            'A broken twin is passed by choosing the intact clip, one clip twice by "can\'t tell": without that choice '
            "there is nothing to pass.",
        ),
    )


def _left(report: StudyReport) -> Iterator[Table]:
    left = report.left
    if left.interval is not None:
        low, high = left.interval
        yield Table(
            "left-side",
            "Answers for the left video",
            ("", "Share (%)", "Answers"),
            (
                (
                    Cell("left"),
                    number_cell(100 * left.left / left.n, (100 * low, 100 * high), "%"),
                    _count(left.n),
                ),
            ),
            ("50 % without a preference for a side. Each system stands on the left as often, so this favours none.",),
        )


def _settings(report: StudyReport) -> Facts:
    settings = report.settings
    return Facts(
        "The study",
        (
            *((question.name, question.text) for question in settings.questions),
            ("can't tell", "was a choice" if settings.cant_tell else "was no choice"),
            ("raters of each comparison", str(settings.raters_each)),
            ("an attention check in each", f"{settings.check_every} pairs"),
            ("seed", str(settings.seed)),
        ),
    )


def _vote_share(row: VoteShare | None) -> Cell:
    return number_cell(None if row is None or row.share is None else 100 * row.share, unit="%")


def _count(count: int) -> Cell:
    return Cell(f"{count:,}", count)


def _coefficient(value: float | None, interval: tuple[float, float] | None) -> Cell:
    if value is None:
        return Cell()
    shown = [f"{each:z.2f}" for each in (value, *(interval or ()))]  # z: no minus before 0.00
    return Cell(shown[0], value, interval, " … ".join(shown[1:]))
