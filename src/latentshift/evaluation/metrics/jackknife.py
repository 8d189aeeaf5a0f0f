"""Intervals from the values of parts: a delete-a-group jackknife, and independent repeats.

For what is too large to be resampled: ten recalculations rather than hundreds. The bootstrap is in
:mod:`.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GROUPS = 10


def jackknife_interval(value: float, left_out: Sequence[float]) -> tuple[float, float]:
    """Bounds of the 95 % interval of a statistic, from its values without each of G equal random groups.

    The variance is (G - 1) / G · Σ (θ₍ᵢ₎ - mean θ₍·₎)² (Shao and Tu 1995, Eq. 2.9 with groups), and the quantile
    Student's with G - 1 degrees of freedom. A bias that all of them share, as a Fréchet distance's, does not enter.

    Args:
        value: of the statistic on everything.
        left_out: without group 1, without group 2, ….

    Raises:
        ValueError: for fewer than 2 groups.
    """
    groups = len(left_out)
    if groups < 2:
        raise ValueError(f"a jackknife needs at least 2 groups, not {groups}")
    deviations = np.asarray(left_out, np.float64) - np.mean(left_out)
    return _around(value, float(np.sqrt((groups - 1) / groups * (deviations**2).sum())), groups)


def repeats_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Bounds of the 95 % interval of the mean of independent repeats, by Student's distribution; None for one alone."""
    count = len(values)
    if count < 2:
        return None
    return _around(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count)), count)


def _around(value: float, error: float, count: int) -> tuple[float, float]:
    from scipy.stats import t as students_t  # takes a second, which pages of nothing but words need not wait for

    reach = float(students_t.ppf(0.975, count - 1)) * error
    return value - reach, value + reach


def not_below(least: float, interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """An interval that was moved, within what the metric can be."""
    return None if interval is None else (max(interval[0], least), max(interval[1], least))
