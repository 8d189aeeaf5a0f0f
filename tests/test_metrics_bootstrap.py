"""Bootstrap intervals over videos, and the result that carries them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.metrics.bootstrap import bootstrap_interval
from latentshift.evaluation.metrics.result import MetricResult


def interval_of_mean(values: np.ndarray, seed: int = 0, resamples: int = 1000) -> tuple[float, float] | None:
    return bootstrap_interval(
        lambda chosen: float(values[chosen].mean()), len(values), values.mean(), seed=seed, resamples=resamples
    )


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=200)
    assert interval_of_mean(values) == pytest.approx(mean_of(values.tolist()).interval, abs=0.03)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        low, high = interval_of_mean(rng.exponential(size=60), seed, 200) or (0.0, 0.0)
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_interval_is_of_its_seed() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert interval_of_mean(values) == interval_of_mean(values) != interval_of_mean(values, seed=1)


def test_an_interval_of_a_biased_statistic_lies_around_its_value() -> None:
    """The largest share of 50 classes among 50 draws grows in every resample, where draws repeat."""
    draws = np.arange(50)

    def largest(chosen: np.ndarray) -> float:
        return float(np.bincount(draws[chosen]).max())

    low, high = bootstrap_interval(largest, 50, largest(draws), seed=0, resamples=300) or (9.0, 9.0)
    assert low <= 1.0 <= high


def test_too_few_videos_have_no_interval() -> None:
    assert interval_of_mean(np.arange(9.0)) is None and interval_of_mean(np.arange(10.0)) is not None
    with pytest.raises(ValueError, match="at least 2 resamples"):
        interval_of_mean(np.arange(10.0), resamples=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": math.nan}, "FVD is not a finite number: nan"),
        ({"interval": (0.0, math.inf)}, "not a finite number"),
        ({"interval": (2.0, 1.0)}, "ends before it begins"),
        ({"n": 0}, "at least one video on each side"),
        ({"n_reference": 0}, "at least one video on each side"),
    ],
)
def test_a_result_is_a_number_of_something(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetricResult(**{"name": "FVD", "value": 1.0, "n": 2, "samples": 2} | changes)
