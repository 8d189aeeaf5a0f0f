"""Kernel distances (squared maximum mean discrepancy, MMD²): KID on frames, KVD on clips, CMMD on CLIP features.

Gretton et al. 2012, JMLR 13: Eq. 3 (unbiased) and Eq. 5 (biased). KID: Bińkowski et al. 2018, arXiv 1801.01401. CMMD:
Jayasumana et al. 2024, arXiv 2401.09603. Legend of shapes: N, M rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentshift.evaluation.metrics.bootstrap import bootstrap_interval
from latentshift.evaluation.metrics.result import MetricResult, few_videos_warning
from latentshift.evaluation.metrics.video_rows import VideoRows, check_rows

Estimator = Literal["unbiased", "biased"]  # without or with the kernel of a row with itself
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (N, D), (M, D) -> (N, M)

CMMD_SCALE = 1000  # of the paper's readable numbers
RESAMPLES = 200  # of an interval; each takes a product with an N × N matrix
_BLOCK = 1024  # rows of the kernel matrix at once


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (x·y / D + offset)^degree; KID's by default. JEDi's has degree 2 and offset 0."""

    degree: int = 3
    offset: float = 1.0

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The kernel matrix, (N, M), of x (N, D) and y (M, D)."""
        matrix: np.ndarray = (x @ y.T / x.shape[1] + self.offset) ** self.degree
        return matrix


@dataclass(frozen=True)
class GaussianKernel:
    """k(x, y) = exp(-‖x - y‖² / (2 width²)); CMMD's has width 10, on features of norm 1."""

    width: float = 10.0

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The kernel matrix, (N, M), of x (N, D) and y (M, D)."""
        squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
        matrix: np.ndarray = np.exp(-np.maximum(squares, 0.0) / (2 * self.width**2))
        return matrix


def kernel_distance(x: np.ndarray, y: np.ndarray, *, kernel: Kernel, estimator: Estimator) -> float:
    """MMD² of two sets of features, in float64, with blocks of the kernel matrices in memory.

    Unbiased: the mean of k over pairs i ≠ j in x, plus that in y, minus twice the mean over all pairs of x and y; its
    expectation is 0 for equal distributions, so it can be negative. Biased: with the pairs i = j; >= 0 up to rounding.

    Args:
        x, y: floating (N, D) and (M, D).

    Raises:
        ValueError: for other shapes, values that are not finite, an unknown estimator, or one row where it is unbiased.
    """
    x, y = _pair(x, y)
    return _within(x, kernel, estimator) + _within(y, kernel, estimator) - 2 * _sum(x, y, kernel) / (len(x) * len(y))


def unit_norm(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to norm 1, float64.

    Raises:
        ValueError: for a row of norm 0, another shape, or values that are not finite.
    """
    check_rows(rows)
    values = rows.astype(np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError("a feature of norm 0 has no direction")
    unit: np.ndarray = values / norms
    return unit


def kernel_result(
    name: str,
    generated: VideoRows,
    reference: VideoRows,
    *,
    kernel: Kernel,
    estimator: Estimator,
    scale: float = 1.0,
    unit: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MetricResult:
    """``scale`` · MMD² with a bootstrap interval over the generated videos; the reference is taken as given.

    Unbiased, it is over pairs of rows of different videos. Frames of one video are alike, so that their pairs, few as
    they are, would make a distance of equal distributions positive. With one row a video it is
    :func:`kernel_distance`, which knows no videos. In a resample, a video that is drawn twice is still no pair with
    itself. Needs N² numbers of 8 bytes for N generated rows: give ``VideoRows`` a limit where that is too much.

    Args:
        unit: scale features to norm 1 first, as CMMD does.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: as :func:`kernel_distance`; unbiased, for one video on a side.
    """
    videos, theirs = generated.by_video(), reference.by_video()
    x, y = _pair(np.concatenate(videos), np.concatenate(theirs))
    if unit:
        x, y = unit_norm(x), unit_norm(y)
    counts, of_reference = (np.array([len(rows) for rows in side]) for side in (videos, theirs))
    of_weights = _distance_of_weights(x, y, counts, of_reference, kernel, estimator, scale)
    value = of_weights(np.ones(len(videos)))
    interval = bootstrap_interval(
        lambda chosen: of_weights(np.bincount(chosen, minlength=len(videos)).astype(np.float64)),
        len(videos),
        value,
        seed=seed,
        resamples=resamples,
    )
    if estimator == "biased":  # a squared norm, negative by rounding alone, or as an interval that was moved
        value = max(value, 0.0)
        interval = interval and (max(interval[0], 0.0), max(interval[1], 0.0))
    several = estimator == "unbiased" and max(counts.max(), of_reference.max()) > 1
    return MetricResult(
        name,
        value,
        len(videos),
        len(x),
        variant=f"{kernel}, {estimator}"
        + (" over pairs of different videos" if several else "")
        + f", times {scale:g}"
        + (", features of norm 1" if unit else ""),
        interval=interval,
        n_reference=len(reference),
        warnings=(
            *few_videos_warning(len(videos)),
            *generated.repeat_warning("generated"),
            *reference.repeat_warning("reference"),
        ),
    )


def _distance_of_weights(
    x: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray,
    of_reference: np.ndarray,
    kernel: Kernel,
    estimator: Estimator,
    scale: float,
) -> Callable[[np.ndarray], float]:
    """``scale`` · MMD² as a function of how often each generated video is drawn, (videos,).

    Args:
        x, y: (N, D) and (M, D), rows of a video after another's.
        counts, of_reference: rows of each video of ``x`` and of ``y``.
    """
    for side in (counts, of_reference):
        _check_count(len(side), estimator, "videos")
    owner = np.repeat(np.arange(len(counts)), counts)  # (N,): the video of each row
    matrix = kernel(x, x)
    own = np.zeros(len(counts))  # sum of k over the pairs within each video that are left out
    within_reference = _sum(y, y, kernel) / len(y) ** 2
    if estimator == "unbiased":
        own = np.array([float(matrix[rows, rows].sum()) for rows in _slices(counts)])
        own_reference = sum(float(kernel(y[rows], y[rows]).sum()) for rows in _slices(of_reference))
        pairs = float(len(y)) ** 2 - float((of_reference.astype(np.float64) ** 2).sum())
        within_reference = (_sum(y, y, kernel) - own_reference) / pairs
    across = np.concatenate([kernel(block, y).mean(1) for block in _blocks(x)])  # (N,)

    def of_weights(weights: np.ndarray) -> float:
        by_row = weights[owner]
        total, pairs = float(by_row @ matrix @ by_row), float(by_row.sum()) ** 2
        if estimator == "unbiased":
            total -= float(weights**2 @ own)
            pairs -= float(((weights * counts) ** 2).sum())
        return scale * (total / pairs + within_reference - 2 * float(by_row @ across) / float(by_row.sum()))

    return of_weights


def _pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    check_rows(x)
    check_rows(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"both sides must have the same features: {x.shape[1]} and {y.shape[1]}")
    return x.astype(np.float64), y.astype(np.float64)


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    return (x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK))


def _sum(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> float:
    return sum(float(kernel(a, b).sum()) for a in _blocks(x) for b in _blocks(y))


def _slices(counts: np.ndarray) -> Iterator[slice]:
    """The rows of each video."""
    ends = np.cumsum(counts).tolist()
    return (slice(end - count, end) for end, count in zip(ends, counts.tolist(), strict=True))


def _check_count(count: int, estimator: Estimator, what: str = "samples") -> None:
    if estimator not in ("unbiased", "biased"):
        raise ValueError(f"an estimator is unbiased or biased, not {estimator!r}")
    if estimator == "unbiased" and count < 2:
        raise ValueError(f"the unbiased estimator needs at least 2 {what} on each side")


def _within(x: np.ndarray, kernel: Kernel, estimator: Estimator) -> float:
    """The mean of k over pairs of rows of x."""
    n = len(x)
    _check_count(n, estimator)
    if estimator == "biased":
        return _sum(x, x, kernel) / n**2
    own = sum(float(np.diag(kernel(block, block)).sum()) for block in _blocks(x))
    return (_sum(x, x, kernel) - own) / (n * (n - 1))
