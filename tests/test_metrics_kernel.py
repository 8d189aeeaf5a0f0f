"""Kernel distances: KID unbiased at any N, CMMD's kernel, and agreement with sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from latentshift.evaluation.metrics import kernel as module
from latentshift.evaluation.metrics.kernel import (
    GaussianKernel,
    PolynomialKernel,
    kernel_distance,
    kernel_result,
)
from latentshift.evaluation.metrics.video_rows import VideoRows


def by_hand(x: np.ndarray, y: np.ndarray, k, *, unbiased: bool) -> float:
    def within(rows: np.ndarray) -> float:
        pairs = [k(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j or not unbiased]
        return sum(pairs) / len(pairs)

    return within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def videos(rows: np.ndarray) -> VideoRows:
    each = VideoRows()
    for index, row in enumerate(rows):
        each.add(index, row[None])
    return each


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("block", [3, 1024])
def test_distances_are_sums_over_pairs(unbiased: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)) + 0.5
    for kernel, k in (
        (PolynomialKernel(), lambda a, b: (sum(a * b) / 4 + 1) ** 3),
        (PolynomialKernel(2, 0.0), lambda a, b: (sum(a * b) / 4) ** 2),
        (GaussianKernel(2.0), lambda a, b: math.exp(-sum((a - b) ** 2) / 8)),
    ):
        expected = by_hand(x, y, k, unbiased=unbiased)
        estimator = "unbiased" if unbiased else "biased"
        assert kernel_distance(x, y, kernel=kernel, estimator=estimator) == pytest.approx(expected, rel=1e-12)
        result = kernel_result("KID", videos(x), videos(y), kernel=kernel, estimator=estimator, scale=3.0)
        assert result.value == pytest.approx(3 * expected, rel=1e-12)
        assert result.interval is None and "too few for an interval" in result.warnings[0]


def test_kid_is_unbiased_at_small_n_and_the_biased_estimator_is_not() -> None:
    rng = np.random.default_rng(0)
    draws = [(rng.normal(size=(4, 3)), rng.normal(size=(5, 3))) for _ in range(2000)]
    kernel = PolynomialKernel()
    unbiased = np.array([kernel_distance(x, y, kernel=kernel, estimator="unbiased") for x, y in draws])
    biased = np.array([kernel_distance(x, y, kernel=kernel, estimator="biased") for x, y in draws])
    error = unbiased.std() / math.sqrt(len(draws))
    assert abs(unbiased.mean()) < 4 * error
    assert biased.mean() > 10 * error and biased.min() > 0 > unbiased.min()


def test_kid_of_frames_is_unbiased_although_frames_of_one_video_are_alike() -> None:
    rng = np.random.default_rng(0)

    def side(count: int) -> VideoRows:
        made = VideoRows()
        for index in range(count):
            made.add(index, rng.normal(size=(1, 3)) + 0.3 * rng.normal(size=(2 + index % 3, 3)))
        return made

    def of_frames(x: VideoRows, y: VideoRows) -> float:
        rows = (np.concatenate(each.by_video()) for each in (x, y))
        return kernel_distance(*rows, kernel=PolynomialKernel(), estimator="unbiased")

    draws = [(side(5), side(6)) for _ in range(400)]
    settings = {"kernel": PolynomialKernel(), "estimator": "unbiased"}
    found = np.array([kernel_result("KID", *each, **settings).value for each in draws])
    error = found.std() / math.sqrt(len(draws))
    assert abs(found.mean()) < 4 * error
    assert np.mean([of_frames(*each) for each in draws]) > 10 * error  # what frames as samples of their own would give
    assert "pairs of different videos" in kernel_result("KID", *draws[0], **settings).variant


def test_kid_of_frames_is_a_sum_over_pairs_of_different_videos() -> None:
    rng = np.random.default_rng(1)
    x, y = ([rng.normal(size=(count, 4)) for count in counts] for counts in ((3, 1, 4), (2, 5)))
    sides = VideoRows(), VideoRows()
    for side, videos_of in zip(sides, (x, y), strict=True):
        for index, rows in enumerate(videos_of):
            side.add(index, rows)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 4 + 1) ** 3

    def within(side: list[np.ndarray]) -> float:
        others = [(a, b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j]
        return float(np.mean([k(p, q) for a, b in others for p in a for q in b]))

    across = np.mean([k(p, q) for a in x for b in y for p in a for q in b])
    found = kernel_result("KID", *sides, kernel=PolynomialKernel(), estimator="unbiased")
    assert found.value == pytest.approx(within(x) + within(y) - 2 * across, rel=1e-12)
    assert found.samples == 8 and found.n == 3
    one = VideoRows()
    one.add(0, x[0])
    with pytest.raises(ValueError, match="at least 2 videos"):
        kernel_result("KID", one, sides[1], kernel=PolynomialKernel(), estimator="unbiased")


def test_a_known_distance() -> None:
    """Normal x against x + m, Gaussian kernel of width s, D dimensions: 2 (s²/(s²+2))^(D/2) (1 - e^(-m²/2(s²+2)))."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 2)), rng.normal(size=(3000, 2)) + np.array([1.5, 0.0])
    expected = 2 * (4 / 6) * (1 - math.exp(-(1.5**2) / 12))
    assert kernel_distance(x, y, kernel=GaussianKernel(2.0), estimator="unbiased") == pytest.approx(expected, rel=0.05)


def test_cmmd_is_a_thousand_times_the_distance_of_unit_features_with_width_10() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 8)), rng.normal(size=(4, 8)) + 1
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    expected = 1000 * by_hand(a, b, lambda p, q: math.exp(-sum((p - q) ** 2) / 200), unbiased=False)
    settings = {"kernel": GaussianKernel(), "scale": 1000, "unit": True}
    assert kernel_result("CMMD", videos(x), videos(y), estimator="biased", **settings).value == pytest.approx(
        expected, rel=1e-9
    )
    scaled = kernel_result("CMMD", videos(7 * x), videos(y), estimator="biased", **settings)
    assert scaled.value == pytest.approx(expected, rel=1e-9)
    assert kernel_result("CMMD", videos(x), videos(y), estimator="unbiased", **settings).value < expected
    with pytest.raises(ValueError, match="norm 0"):
        kernel_result("CMMD", videos(np.zeros((2, 8))), videos(y), estimator="biased", **settings)


def test_an_interval_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 40)) * 3, rng.normal(size=(20, 40)) * 3
    settings = {"kernel": PolynomialKernel(), "estimator": "unbiased"}
    found = kernel_result("KID", videos(x), videos(y), **settings)
    assert found.interval is not None and found.interval[0] < found.value < found.interval[1]
    assert kernel_result("KID", videos(x), videos(y), **settings) == found


def test_a_biased_distance_is_never_negative() -> None:
    x = np.random.default_rng(0).normal(size=(12, 8))
    found = kernel_result("CMMD", videos(x), videos(x), kernel=GaussianKernel(), estimator="biased", unit=True)
    assert found.value == pytest.approx(0, abs=1e-12) and found.value >= 0
    assert found.interval is not None and found.interval[0] == 0 < found.interval[1]


@pytest.mark.parametrize("unbiased", [True, False])
def test_a_video_drawn_twice_is_no_pair_with_itself(unbiased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)) * 3, rng.normal(size=(6, 4))
    statistics = []
    monkeypatch.setattr(module, "bootstrap_interval", lambda statistic, *_, **__: statistics.append(statistic))
    estimator = "unbiased" if unbiased else "biased"
    kernel_result("KID", videos(x), videos(y), kernel=PolynomialKernel(), estimator=estimator, scale=2.0)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 4 + 1) ** 3

    drawn = [3, 0, 3, 4, 3]
    pairs = [k(x[i], x[j]) for i in drawn for j in drawn if i != j or not unbiased]
    theirs = [k(y[i], y[j]) for i in range(6) for j in range(6) if i != j or not unbiased]
    across = [k(x[i], b) for i in drawn for b in y]
    expected = 2 * (np.mean(pairs) + np.mean(theirs) - 2 * np.mean(across))
    assert statistics[0](np.array(drawn)) == pytest.approx(expected, rel=1e-12)


def test_what_has_no_distance_is_refused() -> None:
    rows = np.ones((3, 2))
    with pytest.raises(ValueError, match="at least 2 samples"):
        kernel_distance(rows[:1], rows, kernel=PolynomialKernel(), estimator="unbiased")
    with pytest.raises(ValueError, match="at least 2 videos"):
        kernel_result("KID", videos(rows[:1]), videos(rows), kernel=PolynomialKernel(), estimator="unbiased")
    with pytest.raises(ValueError, match="unbiased or biased"):
        kernel_distance(rows, rows, kernel=PolynomialKernel(), estimator="u")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same features"):
        kernel_distance(rows, np.ones((3, 1)), kernel=PolynomialKernel(), estimator="biased")
    with pytest.raises(ValueError, match="not finite"):
        kernel_distance(rows, rows * np.nan, kernel=PolynomialKernel(), estimator="biased")
