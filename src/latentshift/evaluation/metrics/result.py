"""What a metric gives: a value with its interval, its sample sizes and its warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentshift.evaluation.metrics.bootstrap import MIN_VIDEOS

_BIASED = ("FID", "FVD", "IS", "CMMD")  # after the network's name


@dataclass(frozen=True)
class MetricResult:
    """One number with what is needed to judge it.

    Attributes:
        name: of the metric.
        value: finite.
        n: generated videos behind the value; an image is a video of one frame.
        samples: rows behind the value: frames for a metric of frames, clips for a metric of clips.
        variant: which of the definitions under this name, e.g. ``covariance over N-1``.
        interval: bounds of the 95 % interval; None if there is none.
        n_reference: reference videos; None for a metric without a reference.
        repeats: of one experiment, whose mean the value is; the videos and samples are those of all.
        deviation: population standard deviation over the splits or repeats behind the value; None without them.
        warnings: sentences; empty if there is nothing to say.

    Raises:
        ValueError: if the value or a bound is not finite, the bounds are not in order, or nothing was counted.
    """

    name: str
    value: float
    n: int
    samples: int
    variant: str = ""
    interval: tuple[float, float] | None = None
    n_reference: int | None = None
    repeats: int = 1
    deviation: float | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n < 1 or self.samples < 1 or self.n_reference == 0:
            raise ValueError(f"{self.name} needs at least one video on each side")
        if not all(map(math.isfinite, (self.value, *(self.interval or ())))):
            raise ValueError(f"{self.name} is not a finite number: {self.value}, interval {self.interval}")
        if self.interval and self.interval[0] > self.interval[1]:
            raise ValueError(f"the interval of {self.name} ends before it begins: {self.interval}")


def is_biased(name: str) -> bool:
    """Whether a metric of this name has another expectation for another number of videos, whatever network it is by.

    Fréchet distances are larger for fewer videos, and inception scores smaller; CMMD counts pairs of a row with itself.
    Unbiased kernel distances, means over videos and shares have the same expectation for any number.
    """
    return name.rpartition("-")[2] in _BIASED


def comparison_differences(first: MetricResult, second: MetricResult) -> tuple[str, ...]:
    """Why two results of one metric must not be compared as they stand, as ``the videos differ (45 and 2,000)``.

    Numbers of videos count for what is biased by them alone (:func:`is_biased`), and are those of one repeat.

    Raises:
        ValueError: if they are of different metrics.
    """
    if first.name != second.name:
        raise ValueError(f"{first.name} and {second.name} are different metrics")
    facts: list[tuple[str, object, object]] = []
    if is_biased(first.name):
        ours, theirs = _of_a_repeat(first), _of_a_repeat(second)
        facts.append(("videos", ours[0], theirs[0]))
        if ours[0] == theirs[0]:
            facts.append(("samples", ours[1], theirs[1]))
        facts.append(("reference videos", f"{first.n_reference or 0:,}", f"{second.n_reference or 0:,}"))
    facts.append(("variants", first.variant, second.variant))
    return tuple(f"the {what} differ ({one} and {two})" for what, one, two in facts if one != two)


def _of_a_repeat(result: MetricResult) -> tuple[str, str]:
    """Videos and samples."""
    each = " a repeat" if result.repeats > 1 else ""
    return f"{result.n // result.repeats:,}{each}", f"{result.samples // result.repeats:,}{each}"


def covariance_warnings(generated: tuple[int, int], reference: tuple[int, int], features: int) -> tuple[str, ...]:
    """Warnings if rows are too few for a covariance of full rank, or come from too few videos to count on it.

    Where both sides have the same counts, one sentence is about both.

    Args:
        generated: rows, and videos that they are of.
        reference: the same.
        features: columns.
    """
    if generated == reference:
        return _covariance_warning(*generated, features, "generated and as many reference", each=" each")
    return (
        *_covariance_warning(*generated, features, "generated"),
        *_covariance_warning(*reference, features, "reference"),
    )


def _covariance_warning(samples: int, videos: int, features: int, what: str, each: str = "") -> tuple[str, ...]:
    """``what`` says which set this is, or with ``each`` that it is both."""
    if samples > features:
        if videos > features:
            return ()
        return (
            f"{samples:,} {what} samples are of {videos:,} videos{each}, and frames of one video are alike: for the "
            f"covariance of {features:,} features take {features + 1:,} videos or more, or the distance may be biased "
            "upwards.",
        )
    return (
        f"{samples:,} {what} samples are too few: the covariance of {features} features needs at least {features + 1}, "
        "and the distance is biased upwards.",
    )


def few_videos_warning(n: int) -> tuple[str, ...]:
    """A warning if ``n`` videos are too few for a bootstrap interval."""
    return () if n >= MIN_VIDEOS else (f"{n} videos are too few for an interval, which needs at least {MIN_VIDEOS}.",)
