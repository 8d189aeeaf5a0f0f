"""Verdicts from intervals: a statement holds only where its whole 95 % interval says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from latentshift.evaluation.metrics.jackknife import repeats_interval

Verdict = Literal["holds", "does not hold", "not decided"]
Interval = tuple[float, float]


def larger(difference: Interval | None, margin: float = 0.0) -> Verdict:
    """Whether a difference is above ``-margin``, by its interval; without an interval nothing is decided."""
    if difference is None:
        return "not decided"
    low, high = difference
    if low > -margin:
        return "holds"
    return "does not hold" if high < -margin else "not decided"


def can_lose(share: Interval | None, margin: float) -> bool:
    """Whether a share is surely above a margin, so that another one could be lower by more than that.

    Without a margin always. Where nearly nothing is right, a statement that no more than a margin gets lost can't fail.
    """
    return margin == 0 or (share is not None and share[0] > margin)


def fewer(first: int, second: int) -> Verdict:
    """Whether an exact count is smaller than another."""
    return "holds" if first < second else "does not hold"


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, Interval | None]:
    """The ratio of two times that were measured in turns, all above 0, and its 95 % interval.

    The geometric mean over rounds, with Student's interval of the mean logarithm; None for one round alone.
    """
    logs = [math.log(one / other) for one, other in zip(first, second, strict=True)]
    interval = repeats_interval(logs)
    bounds = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    return math.exp(sum(logs) / len(logs)), bounds


def far_ratio_interval(first: Interval | None, second: Interval | None) -> Interval | None:
    """Bounds of the ratio of two positive numbers from the far ends of their intervals; None without both.

    It is wider than an interval of the ratio itself would be, and says that one number is smaller only where the two
    intervals don't meet.
    """
    if first is None or second is None or min(*first, *second) <= 0:
        return None
    return first[0] / second[1], first[1] / second[0]


def smaller_ratio(interval: Interval | None) -> Verdict:
    """Whether a ratio is below 1, by its interval."""
    return larger(None if interval is None else (1 - interval[1], 1 - interval[0]))


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a claim: it holds if all its statements do, and does not if one does not."""
    each = set(verdicts)
    if "does not hold" in each:
        return "does not hold"
    return "not decided" if "not decided" in each or not each else "holds"
