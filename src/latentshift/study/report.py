"""All that a study's answers say, as one object of plain values: what report.json holds and the page is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from latentshift import __version__
from latentshift.evaluation.report.paper_tables import PAPER, TABLE_3
from latentshift.evaluation.report.user_study import FORMAT
from latentshift.study.records import Answer
from latentshift.study.result import (
    CheckResult,
    LeftShare,
    PairResult,
    VoteShare,
    check_table,
    left_share,
    majority_table,
    strength_intervals,
    system_strengths,
    vote_table,
)
from latentshift.study.settings import StudySettings
from latentshift.study.store import Store

Row = TypeVar("Row", PairResult, VoteShare)


@dataclass(frozen=True)
class StudyReport:
    """The result of a study.

    Attributes:
        systems: in the study's order.
        settings: of the study.
        given, wanted: answered pairs; attention checks not counted.
        comparisons: of one clip each of two systems.
        majority: for each question and pair of systems.
        votes: likewise, of all raters.
        votes_attentive: likewise, of those who failed no attention check with a broken twin.
        strengths: for three systems or more, by question: log strength of each system, or the sentence why there is
            none.
        strength_intervals: by question: 95 % bounds of the log strength of each system; of those that have some.
        left: how often the left video was chosen.
        raters: pairs answered by each, and their attention checks, by the random id.
        notes: sentences that the numbers must be read with.
    """

    systems: list[str]
    settings: StudySettings
    given: int
    wanted: int
    comparisons: int
    majority: list[PairResult]
    votes: list[VoteShare]
    votes_attentive: list[VoteShare]
    strengths: dict[str, dict[str, float] | str]
    strength_intervals: dict[str, dict[str, tuple[float, float]]]
    left: LeftShare
    raters: dict[str, tuple[int, CheckResult]]
    notes: list[str]

    def to_json(self) -> str:
        """Indented, with the version of this package, and the paper's table marked as cited."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "latentshift": __version__,
            "systems": self.systems,
            "settings": asdict(self.settings),
            "answers": {"given": self.given, "wanted": self.wanted, "comparisons": self.comparisons},
            "notes": self.notes,
            "majority": list(map(asdict, self.majority)),
            "votes": {"all": list(map(asdict, self.votes)), "attentive": list(map(asdict, self.votes_attentive))},
            "log_strengths": {
                question: {"undetermined": strengths} if isinstance(strengths, str) else strengths
                for question, strengths in self.strengths.items()
            },
            "log_strength_intervals": self.strength_intervals,
            "left": asdict(self.left),
            "raters": {rater: {"pairs": pairs, **asdict(checks)} for rater, (pairs, checks) in self.raters.items()},
            "paper": {
                "cited": PAPER,
                "table": TABLE_3.number,
                "notes": TABLE_3.notes,
                "rows": list(map(asdict, TABLE_3.rows)),
            },
        }
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def make_report(store: Store) -> tuple[StudyReport, list[Answer]]:
    """The report on the answers of one moment, and these answers.

    Raises:
        ValueError: where nobody has answered yet.
    """
    answers = store.answers()
    if not answers:
        raise ValueError(f"{store.folder} has no answers yet: let raters answer at latentshift study serve first")
    systems, settings = store.systems(), store.settings
    questions = [question.name for question in settings.questions]

    def in_order(rows: Iterable[Row]) -> list[Row]:
        """By question, then by pair, in the study's order."""
        return sorted(
            rows, key=lambda row: (questions.index(row.question), systems.index(row.first), systems.index(row.second))
        )

    checks = check_table(answers)
    failed = {rater for rater, each in checks.items() if each.broken_passed < each.broken_shown}
    pairs = dict.fromkeys(checks, 0)
    for rater, _ in {(each.rater, each.comparison) for each in answers}:
        pairs[rater] += 1
    votes = {(each.rater, each.comparison) for each in answers if each.kind == "vote"}
    wanted = store.progress()[1]
    strengths = {name: _strengths(answers, name, systems) for name in questions} if len(systems) > 2 else {}
    intervals = {
        name: strength_intervals(answers, name, systems)
        for name, each in strengths.items()
        if not isinstance(each, str)
    }
    report = StudyReport(
        systems=systems,
        settings=settings,
        given=len(votes),
        wanted=wanted,
        comparisons=wanted // settings.raters_each,
        majority=in_order(majority_table(answers, settings.raters_each)),
        votes=in_order(vote_table(answers)),
        votes_attentive=in_order(vote_table(each for each in answers if each.rater not in failed)),
        strengths=strengths,
        strength_intervals={name: each for name, each in intervals.items() if each is not None},
        left=left_share(answers),
        raters={rater: (pairs[rater], each) for rater, each in checks.items()},
        notes=[],
    )
    report.notes.extend(_notes(report, len(failed)))
    return report, answers


def _strengths(answers: Sequence[Answer], question: str, systems: Sequence[str]) -> dict[str, float] | str:
    try:
        return system_strengths(answers, question, systems)
    except ValueError as error:
        return str(error)


def _notes(report: StudyReport, failed: int) -> Iterator[str]:
    if report.given < report.wanted:
        each = report.settings.raters_each
        yield (
            f"The study is not complete: {report.given:,} of {report.wanted:,} answers are there. A majority is taken "
            f"only where all {each} are."
        )
    open_rows = [
        f"{row.question}, {row.first} over {row.second}"
        for row in report.majority
        if row.interval is not None and row.interval[0] <= 0.5 <= row.interval[1]
    ]
    if open_rows:
        yield (
            f"The interval includes 50 %, so that the answers do not tell which is preferred: {'; '.join(open_rows)}."
        )
    if undecided := sum(row.undecided for row in report.majority):
        yield f"No majority, and therefore in no share: {undecided:,} (the column undecided)."
    if failed:
        yield (
            f"{failed:,} of {len(report.raters):,} raters failed an attention check with a broken twin. Their answers "
            "count in the majority; the table of single votes has a column without them."
        )
    if report.left.interval is not None and not report.left.interval[0] <= 0.5 <= report.left.interval[1]:
        yield (
            f"The left video was chosen in {100 * report.left.left / report.left.n:.1f} % of answers: raters prefer a "
            "side. Each system stands there as often, so this favours none, but it blurs the difference."
        )
