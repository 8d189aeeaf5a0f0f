"""Intervals from parts: closed forms, and how often they hold the true value."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from latentshift.evaluation.metrics.jackknife import jackknife_interval, repeats_interval


def test_of_a_mean_it_is_the_interval_of_the_groups_means() -> None:
    """Leaving out one of G equal groups, the jackknife of a mean has the variance of the groups' means over G."""
    groups = np.random.default_rng(0).normal(size=(10, 7)).mean(1)
    value = groups.mean()
    left_out = [np.delete(groups, number).mean() for number in range(10)]
    expected = stats.t.interval(0.95, 9, loc=value, scale=stats.sem(groups))
    assert jackknife_interval(value, left_out) == pytest.approx(expected, rel=1e-12)
    assert repeats_interval(groups) == pytest.approx(expected, rel=1e-12)


def test_it_holds_the_true_value_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        parts = rng.exponential(size=(10, 40))
        value = float(np.log(parts.mean()))
        left_out = [float(np.log(np.delete(parts, number, 0).mean())) for number in range(10)]
        low, high = jackknife_interval(value, left_out)
        held += low < 0 < high
    assert 0.90 < held / 400 < 0.99


def test_too_few() -> None:
    assert repeats_interval([1.0]) is None
    with pytest.raises(ValueError, match="at least 2 groups"):
        jackknife_interval(1.0, [1.0])
