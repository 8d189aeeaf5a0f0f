"""Numbers of the ladder and of timing, put side by side for each statement of a claim, with its verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentshift.benchmarks.reproduction.claims import IMAGE_STAGE, Claim, Costs, Distances, Shares
from latentshift.benchmarks.reproduction.verdict import (
    Interval,
    Verdict,
    can_lose,
    far_ratio_interval,
    fewer,
    larger,
    ratio_interval,
    smaller_ratio,
    together,
)
from latentshift.evaluation.estimates import share_difference_interval
from latentshift.evaluation.metrics.jackknife import repeats_interval
from latentshift.evaluation.sprites.pool_scores import pool_scores

Ladder = Mapping[str, Any]  # content of ladder.json
Seconds = Mapping[str, Mapping[str, Sequence[float]]]  # rung -> "step" or "video" -> one a round


@dataclass(frozen=True)
class Number:
    """One side of a comparison.

    Attributes:
        label: what it is of.
        value: a share 0 … 1, a distance, a count, or seconds.
        interval: bounds of the 95 % interval; None for a count, or with too few values.
        n: videos, or rounds of timing.
    """

    label: str
    value: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Decided:
    """A statement with what decided it.

    Attributes:
        says: in words.
        source: where the paper says it.
        measure: what both numbers are.
        first: that is to be larger for shares, and smaller for distances and costs.
        second: the other.
        compared: the difference of shares or counts, or the ratio of distances or times, first to second.
        interval: its 95 % bounds; None for counts, or with too few values.
        margin: by which a share may be smaller.
        verdict: from the interval.
    """

    says: str
    source: str
    measure: str
    first: Number
    second: Number
    compared: float
    interval: Interval | None
    margin: float
    verdict: Verdict


@dataclass(frozen=True)
class DecidedClaim:
    """A claim with its statements decided."""

    number: int
    title: str
    paper: str
    statements: tuple[Decided, ...]
    verdict: Verdict


_MEASURES = {
    "joint": "share with everything right",
    "motion": "share with the right motion",
    "thing": "share with the right thing",
    "temporal_parameters": "parameters added to the image model",
    "seconds_a_video": "seconds a video",
}
TO_TRUE_CLIPS = " to true clips"  # behind the name of a distance, in what is measured
_PARTS = {
    "seen": "videos",
    "shift_off": "videos, frames independent",
    "images": "single frames",
    "images_shift_off": "single frames, temporal module off",
    "lasting": "lasting motions, 16 frames",
    "lasting_32": "lasting motions, 32 frames",
    "lasting_64": "lasting motions, 64 frames",
}


def label_of(system: str, part: str | None = None) -> str:
    """How a system, and a part of its study, are called in tables and pictures."""
    name = "image stage" if system == IMAGE_STAGE else system
    return name if part is None else f"{name}: {_PARTS[part]}"


def decide(claim: Claim, ladder: Ladder, seconds: Seconds) -> DecidedClaim:
    """A claim's statements, from what was measured of all systems that it names."""
    statements = tuple(_decide(each, ladder, seconds) for each in claim.statements)
    verdict = together(each.verdict for each in statements)
    return DecidedClaim(claim.number, claim.title, claim.paper, statements, verdict)


def share_of(ladder: Ladder, system: str, part: str, score: str) -> Number:
    """A share with Wilson's interval, over the videos of all seeds."""
    of_base = system == IMAGE_STAGE
    pooled = pool_scores([ladder["image_stage"]]) if of_base else _rung(ladder, system)["scores"][part]
    return Number(label_of(system, part), pooled[score], tuple(pooled["intervals"][score]), pooled["n"])


def distance_of(ladder: Ladder, system: str, part: str, name: str) -> Number | None:
    """A distance to true clips, a mean over seeds; None if there are too few videos for one."""
    distance = _rung(ladder, system)["scores"][part].get("distances", {}).get(name)
    if distance is None:
        return None
    bounds = distance["interval"] and (max(distance["interval"][0], 0.0), distance["interval"][1])
    return Number(label_of(system, part), distance["value"], bounds, distance["n"])


def seconds_of(seconds: Seconds, system: str, what: str) -> Number:
    """The mean of rounds, with Student's interval."""
    rounds = seconds[system][what]
    return Number(label_of(system), statistics.fmean(rounds), repeats_interval(rounds), len(rounds))


def _decide(statement: Shares | Distances | Costs, ladder: Ladder, seconds: Seconds) -> Decided:
    if isinstance(statement, Shares):
        return _decide_shares(statement, ladder)
    if isinstance(statement, Distances):
        return _decide_distances(statement, ladder)
    return _decide_costs(statement, ladder, seconds)


def _decide_shares(statement: Shares, ladder: Ladder) -> Decided:
    first, second = (share_of(ladder, *each, statement.score) for each in (statement.first, statement.second))
    interval = share_difference_interval(*((round(each.value * each.n), each.n) for each in (first, second)))
    verdict = larger(interval, statement.margin)
    if verdict == "holds" and not can_lose(second.interval, statement.margin):
        verdict = "not decided"
    difference = first.value - second.value
    measure = _MEASURES[statement.score]
    return Decided(
        statement.says, statement.source, measure, first, second, difference, interval, statement.margin, verdict
    )


def _decide_distances(statement: Distances, ladder: Ladder) -> Decided:
    sides = [distance_of(ladder, *each, statement.distance) for each in (statement.first, statement.second)]
    first, second = (each for each in sides if each is not None)  # a study of two videos has a distance
    interval = far_ratio_interval(first.interval, second.interval)
    measure = f"{statement.distance}{TO_TRUE_CLIPS}"
    ratio, verdict = first.value / second.value, smaller_ratio(interval)
    return Decided(statement.says, statement.source, measure, first, second, ratio, interval, 0.0, verdict)


def _decide_costs(statement: Costs, ladder: Ladder, seconds: Seconds) -> Decided:
    measure = _MEASURES[statement.cost]
    if statement.cost == "temporal_parameters":
        counts = [_rung(ladder, each)["temporal_parameters"] for each in (statement.first, statement.second)]
        first, second = (
            Number(label_of(each), count, None, 1)
            for each, count in zip((statement.first, statement.second), counts, strict=True)
        )
        verdict = fewer(*counts)
        compared = counts[0] - counts[1]
        return Decided(statement.says, statement.source, measure, first, second, compared, None, 0.0, verdict)
    first, second = (seconds_of(seconds, each, "video") for each in (statement.first, statement.second))
    ratio, interval = ratio_interval(seconds[statement.first]["video"], seconds[statement.second]["video"])
    verdict = smaller_ratio(interval)
    return Decided(statement.says, statement.source, measure, first, second, ratio, interval, 0.0, verdict)


def _rung(ladder: Ladder, name: str) -> Mapping[str, Any]:
    rung: Mapping[str, Any] = next(each for each in ladder["rungs"] if each["rung"] == name)
    return rung
