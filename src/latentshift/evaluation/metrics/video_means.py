"""Means over videos of one number a video."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from latentshift.evaluation.metrics.bootstrap import RESAMPLES, bootstrap_interval
from latentshift.evaluation.metrics.result import MetricResult, few_videos_warning


def mean_over_videos(
    name: str,
    values: Mapping[int, float],
    *,
    samples: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
    variant: str = "",
) -> MetricResult:
    """The mean of one value a video, with a bootstrap interval over videos; the same for any order of the mapping.

    Args:
        values: by the video's index.
        samples: frames behind the values.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        variant: see :class:`MetricResult`.

    Raises:
        ValueError: for no value, or one that is not finite; the message names the video.
    """
    if not values:
        raise ValueError(f"{name} has no video to be measured on")
    for video in sorted(values):
        if not math.isfinite(values[video]):
            raise ValueError(f"{name} of video {video} is {values[video]}, and the mean needs finite values")
    row = np.array([values[video] for video in sorted(values)], np.float64)
    value = float(row.mean())
    interval = bootstrap_interval(
        lambda chosen: float(row[chosen].mean()), len(row), value, seed=seed, resamples=resamples
    )
    return MetricResult(
        name, value, len(row), samples, variant=variant, interval=interval, warnings=few_videos_warning(len(row))
    )
