"""Shares with Wilson's interval, and means with standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from latentshift.evaluation.estimates import Mean, mean_of, pool_means, wilson_interval


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 3), (5, 10), (117, 128), (128, 128), (1, 1), (0, 1)])
def test_wilson_is_scipys(right: int, n: int) -> None:
    theirs = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_no_share_has_no_interval(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="a share is of"):
        wilson_interval(right, n)


def test_a_mean_counts_what_is_missing() -> None:
    values = [1.0, None, 4.0, 7.0, None]
    found = mean_of(values)
    assert found == Mean(4.0, pytest.approx(np.std([1, 4, 7], ddof=1) / np.sqrt(3)), 3, 2)
    reach = 4.302652729911275 * np.sqrt(3)  # Student's t, two degrees of freedom
    assert found.interval == pytest.approx((4 - reach, 4 + reach))
    assert mean_of([2.0]) == Mean(2.0, None, 1, 0) and mean_of([2.0]).interval is None
    assert mean_of([None]) == Mean(None, None, 0, 1) and mean_of([]) == Mean(None, None, 0, 0)


def test_pooled_means_are_those_of_all_values() -> None:
    rng = np.random.default_rng(0)
    groups = [*([*rng.normal(place, 2, count), None] for place, count in ((0, 5), (3, 1), (-2, 8))), [None, None]]
    pooled = pool_means([mean_of(group) for group in groups])
    whole = mean_of([value for group in groups for value in group])
    assert (pooled.n, pooled.missing) == (whole.n, whole.missing) == (14, 5)
    assert (pooled.mean, pooled.standard_error) == pytest.approx((whole.mean, whole.standard_error))
    assert pool_means([mean_of([2.0]), mean_of([None])]) == Mean(2.0, None, 1, 1)
    assert pool_means([mean_of([None])]) == Mean(None, None, 0, 1)
