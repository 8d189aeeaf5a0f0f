"""Estimates with their uncertainty: Wilson's interval of a share, and a mean with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Bounds, 0 … 1, of the 95 % interval of a share of ``right`` in ``n`` (Wilson 1927).

    Raises:
        ValueError: unless 0 <= right <= n and n >= 1.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"a share is of 1 or more, and right ones lie between 0 and that; not {right} of {n}")
    share, z2n = right / n, Z_95**2 / n
    middle = share + z2n / 2
    reach = Z_95 * math.sqrt(share * (1 - share) / n + z2n / (4 * n))
    low = 0.0 if right == 0 else (middle - reach) / (1 + z2n)
    high = 1.0 if right == n else (middle + reach) / (1 + z2n)
    return low, high


def share_difference_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Bounds, -1 … 1, of the 95 % interval of a difference of shares (Newcombe 1998, method 10, from Wilson's bounds).

    The shares count as independent. Where both are of the same prompts, as in the sprites study, the true interval is
    narrower as a rule.

    Args:
        first: (right, n) of the share from which the other is taken.
        second: (right, n) of the other.

    Raises:
        ValueError: as :func:`wilson_interval`.
    """
    (low, high), (other_low, other_high) = wilson_interval(*first), wilson_interval(*second)
    share, other = first[0] / first[1], second[0] / second[1]
    below = math.hypot(share - low, other_high - other)
    above = math.hypot(high - share, other - other_low)
    return share - other - below, share - other + above


@dataclass(frozen=True)
class Mean:
    """A mean over clips.

    Attributes:
        mean: over the ``n`` clips that have a value; None if none has.
        standard_error: of the mean, by the deviation between clips; None for fewer than two.
        n: clips with a value.
        missing: clips without one.
    """

    mean: float | None
    standard_error: float | None
    n: int
    missing: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bounds of the 95 % interval, by Student's t distribution; None without a standard error."""
        if self.mean is None or self.standard_error is None:
            return None
        from scipy.special import stdtrit  # here, as shares need no scipy

        reach = float(stdtrit(self.n - 1, 0.975)) * self.standard_error
        return self.mean - reach, self.mean + reach


def mean_of(values: Sequence[float | None]) -> Mean:
    """The mean of values of which some are missing (None)."""
    known = [value for value in values if value is not None]
    n = len(known)
    mean = sum(known) / n if n else None
    error = None
    if mean is not None and n > 1:
        error = math.sqrt(sum((value - mean) ** 2 for value in known) / (n - 1) / n)
    return Mean(mean, error, n, len(values) - n)


def pool_means(means: Sequence[Mean]) -> Mean:
    """The mean, with its standard error, of all values behind several means, as :func:`mean_of` would give it."""
    parts = [each for each in means if each.mean is not None]
    n, missing = sum(each.n for each in parts), sum(each.missing for each in means)
    if not n:
        return Mean(None, None, 0, missing)
    mean = sum(each.n * each.mean for each in parts if each.mean is not None) / n
    if n == 1:
        return Mean(mean, None, 1, missing)
    squares = 0.0
    for each in parts:
        assert each.mean is not None
        squares += (each.standard_error or 0.0) ** 2 * each.n * (each.n - 1) + each.n * (each.mean - mean) ** 2
    return Mean(mean, math.sqrt(squares / (n - 1) / n), n, missing)
