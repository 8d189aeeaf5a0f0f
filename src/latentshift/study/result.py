"""Tables of a study's answers: majority votes, agreement, strengths, attention checks and a preference for a side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from latentshift.evaluation.estimates import wilson_interval
from latentshift.evaluation.metrics.bootstrap import MIN_VIDEOS
from latentshift.study.agreement import alpha_interval, fleiss_kappa, kappa_interval, krippendorff_alpha
from latentshift.study.bradley_terry import bradley_terry
from latentshift.study.records import Answer, Choice

_RESAMPLES = 200  # of the intervals of strengths
_CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True)
class PairResult:
    """One question about one pair of systems.

    Attributes:
        question: its name.
        first, second: the systems.
        first_wins: comparisons in which more than half of the raters chose the first system.
        second_wins: likewise.
        undecided: complete comparisons without such a majority.
        incomplete: comparisons with some answers, but fewer than are wanted; in none of the counts above.
        share: of the first system among decided comparisons, 0 … 1; None without one.
        interval: its 95 % Wilson interval over comparisons.
        kappa: Fleiss' kappa over complete comparisons; None where it is undefined.
        alpha: Krippendorff's alpha over all answers; None where it is undefined.
        kappa_interval, alpha_interval: their 95 % bootstrap intervals over comparisons; None where there is none.
    """

    question: str
    first: str
    second: str
    first_wins: int
    second_wins: int
    undecided: int
    incomplete: int
    share: float | None
    interval: tuple[float, float] | None
    kappa: float | None
    alpha: float | None
    kappa_interval: tuple[float, float] | None
    alpha_interval: tuple[float, float] | None


def majority_table(answers: Iterable[Answer], raters_each: int, *, seed: int = 0) -> list[PairResult]:
    """A row for each question and pair of systems, as Table 3 of the paper; attention checks are not counted.

    Args:
        answers: of a study (:meth:`latentshift.study.store.Store.answers`).
        raters_each: wanted for each comparison.
        seed: of the intervals' resamples.
    """
    votes: dict[tuple[str, str, str], dict[int, list[Choice]]] = defaultdict(lambda: defaultdict(list))
    for each in answers:
        if each.kind == "vote":
            votes[each.question, each.first, each.second][each.comparison].append(each.choice)
    # In an order that does not depend on who answered first, so that the intervals don't.
    in_order = {key: [units[number] for number in sorted(units)] for key, units in votes.items()}
    return [_pair_result(*key, units, raters_each, seed) for key, units in in_order.items()]


def _pair_result(
    question: str, first: str, second: str, units: list[list[Choice]], raters_each: int, seed: int
) -> PairResult:
    complete = [[unit.count(choice) for choice in _CHOICES] for unit in units if len(unit) == raters_each]
    wins = [sum(2 * counts[choice] > raters_each for counts in complete) for choice in (0, 1)]
    decided = sum(wins)
    is_rated_often = bool(complete) and raters_each > 1
    return PairResult(
        question,
        first,
        second,
        first_wins=wins[0],
        second_wins=wins[1],
        undecided=len(complete) - decided,
        incomplete=len(units) - len(complete),
        share=wins[0] / decided if decided else None,
        interval=wilson_interval(wins[0], decided) if decided else None,
        kappa=fleiss_kappa(complete) if is_rated_often else None,
        alpha=krippendorff_alpha(units),
        kappa_interval=kappa_interval(complete, seed=seed) if is_rated_often else None,
        alpha_interval=alpha_interval(units, seed=seed),
    )


@dataclass(frozen=True)
class VoteShare:
    """Single answers to one question about one pair of systems, of complete and incomplete comparisons alike.

    Attributes:
        question: its name.
        first, second: the systems.
        first_votes, second_votes: answers for each.
        neither: answers that raters can't tell.
        raters: who gave them.
    """

    question: str
    first: str
    second: str
    first_votes: int
    second_votes: int
    neither: int
    raters: int

    @property
    def share(self) -> float | None:
        """Of the first system among answers for one of the two; None without one."""
        decided = self.first_votes + self.second_votes
        return self.first_votes / decided if decided else None


def vote_table(answers: Iterable[Answer]) -> list[VoteShare]:
    """A row for each question and pair of systems; attention checks are not counted.

    Votes of one rater, or on one prompt, are not independent, so these shares have no interval.
    """
    votes: dict[tuple[str, str, str], list[Answer]] = defaultdict(list)
    for each in answers:
        if each.kind == "vote":
            votes[each.question, each.first, each.second].append(each)
    rows = []
    for key, given in votes.items():
        counts = Counter(each.choice for each in given)
        raters = len({each.rater for each in given})
        rows.append(VoteShare(*key, counts["first"], counts["second"], counts["neither"], raters))
    return rows


def system_strengths(answers: Iterable[Answer], question: str, systems: Sequence[str]) -> dict[str, float]:
    """Bradley-Terry log strengths with mean 0 by one question's answers; "can't tell" is half a win for each.

    Raises:
        ValueError: where the answers don't determine them.
    """
    wins = _wins_by_prompt(answers, question, systems).sum(0)
    return dict(zip(systems, map(float, bradley_terry(wins, systems)), strict=True))


def strength_intervals(
    answers: Iterable[Answer], question: str, systems: Sequence[str], *, seed: int = 0
) -> dict[str, tuple[float, float]] | None:
    """95 % bootstrap intervals of :func:`system_strengths`, over prompts: answers on one prompt are not independent.

    Returns:
        None for fewer than ``MIN_VIDEOS`` prompts, or where prompts that are drawn don't determine the strengths.
    """
    wins = _wins_by_prompt(answers, question, systems)
    if len(wins) < MIN_VIDEOS:
        return None
    rng = np.random.default_rng(seed)
    try:
        drawn = [bradley_terry(wins[rng.integers(len(wins), size=len(wins))].sum(0)) for _ in range(_RESAMPLES)]
    except ValueError:
        return None
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return dict(zip(systems, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _wins_by_prompt(answers: Iterable[Answer], question: str, systems: Sequence[str]) -> np.ndarray:
    """How often the first system beat the second one, (prompts, S, S)."""
    index = {name: number for number, name in enumerate(systems)}
    by_prompt: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(systems), len(systems))))
    for each in answers:
        if each.kind == "vote" and each.question == question:
            first, second = index[each.first], index[each.second]
            by_prompt[each.prompt][first, second] += {"first": 1.0, "second": 0.0, "neither": 0.5}[each.choice]
            by_prompt[each.prompt][second, first] += {"first": 0.0, "second": 1.0, "neither": 0.5}[each.choice]
    # In an order that does not depend on who answered first, so that the intervals don't.
    return np.array([by_prompt[prompt] for prompt in sorted(by_prompt)]).reshape(-1, len(systems), len(systems))


@dataclass(frozen=True)
class LeftShare:
    """How often the left one of two was chosen; raters without a preference for a side give 0.5.

    Attributes:
        left: answers for the left video.
        n: answers for either; "can't tell" is not among them.
        interval: 95 % Wilson interval of left / n; None without answers.
    """

    left: int
    n: int
    interval: tuple[float, float] | None


def left_share(answers: Iterable[Answer]) -> LeftShare:
    """The share of answers, attention checks of one clip twice included, that chose the left video."""
    chosen = [each for each in answers if each.choice != "neither" and each.kind != "broken"]
    left = sum((each.choice == "second") == each.swapped for each in chosen)
    return LeftShare(left, len(chosen), wilson_interval(left, len(chosen)) if chosen else None)


@dataclass(frozen=True)
class CheckResult:
    """A rater's attention checks.

    Attributes:
        broken_passed, broken_shown: checks with a broken twin; passed where each question's answer is the intact clip.
        identical_passed, identical_shown: checks with one clip twice; passed where each answer is "can't tell". Without
            that choice nothing can be passed, and they tell a preference for a side alone.
    """

    broken_passed: int
    broken_shown: int
    identical_passed: int
    identical_shown: int


def check_table(answers: Iterable[Answer]) -> dict[str, CheckResult]:
    """Attention checks by rater id; raters with none have zeros."""
    right: dict[tuple[str, str, int], bool] = {}
    raters: dict[str, None] = {}
    for each in answers:
        raters[each.rater] = None
        if each.kind != "vote":
            passed = each.choice == ("first" if each.kind == "broken" else "neither")
            key = (each.rater, each.kind, each.comparison)
            right[key] = right.get(key, True) and passed
    shown = Counter(key[:2] for key in right)
    good = Counter(key[:2] for key, passed in right.items() if passed)
    return {
        rater: CheckResult(
            good[rater, "broken"], shown[rater, "broken"], good[rater, "identical"], shown[rater, "identical"]
        )
        for rater in raters
    }
