"""Bootstrap intervals over videos."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MIN_VIDEOS = 10  # fewer say too little of how videos differ
RESAMPLES = 1000


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    videos: int,
    value: float,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float] | None:
    """Bounds of the 95 % bootstrap interval (Efron 1979) of a statistic of videos.

    Videos are drawn with replacement, frames stay with their video: frames of one video are not independent. The
    quantiles of the resampled values are moved so that the resamples' mean falls on ``value``. A biased statistic has
    its bias a second time in a resample, where videos repeat, so that plain percentiles of a Fréchet distance can lie
    wholly above it. The interval is therefore of the statistic at this number of videos, not of its limit.

    Args:
        statistic: of the indices of the drawn videos, int (videos,).
        videos: in all.
        value: of the statistic on all videos.
        seed: of the draws.
        resamples: draws of ``videos`` videos.

    Returns:
        None for fewer than ``MIN_VIDEOS`` videos.

    Raises:
        ValueError: for fewer than 2 resamples.
    """
    if resamples < 2:
        raise ValueError(f"an interval needs at least 2 resamples, not {resamples}")
    if videos < MIN_VIDEOS:
        return None
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(videos, size=videos)) for _ in range(resamples)])
    low, high = np.quantile(drawn, (0.025, 0.975)) + (value - drawn.mean())
    return float(low), float(high)
