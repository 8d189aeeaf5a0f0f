"""What a metric gives: a value with its interval, its sample sizes and its warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentshift.evaluation.metrics.bootstrap import MIN_VIDEOS


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
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n < 1 or self.samples < 1 or self.n_reference == 0:
            raise ValueError(f"{self.name} needs at least one video on each side")
        if not all(map(math.isfinite, (self.value, *(self.interval or ())))):
            raise ValueError(f"{self.name} is not a finite number: {self.value}, interval {self.interval}")
        if self.interval and self.interval[0] > self.interval[1]:
            raise ValueError(f"the interval of {self.name} ends before it begins: {self.interval}")


def comparison_warnings(first: MetricResult, second: MetricResult) -> tuple[str, ...]:
    """Why two results of one metric must not be compared as they stand: sentences, empty if they may.

    Fréchet distance and inception score are biased by N, so that the same model has another value at another N.

    Raises:
        ValueError: if they are of different metrics.
    """
    if first.name != second.name:
        raise ValueError(f"{first.name} and {second.name} are different metrics")
    facts = (
        ("videos", first.n, second.n),
        ("samples", first.samples, second.samples),
        ("reference videos", first.n_reference, second.n_reference),
        ("variants", first.variant, second.variant),
    )
    return tuple(
        f"{first.name} can't be compared: the {what} differ ({one} and {other})."
        for what, one, other in facts
        if one != other
    )


def covariance_warning(samples: int, features: int, what: str, *, videos: int | None = None) -> tuple[str, ...]:
    """A warning if rows are too few for a covariance of full rank, or come from too few videos to count on it.

    Args:
        samples: rows.
        features: columns.
        what: which set this is.
        videos: that the rows are of; None: as many as rows.
    """
    if samples > features:
        if videos is None or videos > features:
            return ()
        return (
            f"{samples:,} {what} samples are of {videos:,} videos, and frames of one video are alike: for the "
            f"covariance of {features:,} features take {features + 1:,} videos or more, or the distance may be biased "
            "upwards.",
        )
    return (
        f"{samples} {what} samples are too few: the covariance of {features} features needs at least {features + 1}, "
        "and the distance is biased upwards.",
    )


def few_videos_warning(n: int) -> tuple[str, ...]:
    """A warning if ``n`` videos are too few for a bootstrap interval."""
    return () if n >= MIN_VIDEOS else (f"{n} videos are too few for an interval, which needs at least {MIN_VIDEOS}.",)
