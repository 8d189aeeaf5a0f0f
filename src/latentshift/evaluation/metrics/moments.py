"""Count, mean and covariance of features in constant memory, mergeable over processes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from latentshift.evaluation.metrics.video_rows import check_rows

Covariance = Literal["N", "N-1"]  # what the sum of products is divided by


class Moments:
    """Running first and second moments of rows of features, in float64.

    Kept are the mean and the sum of products of deviations from it, not raw sums of products, from which a large mean
    would cancel all digits (Chan, Golub, LeVeque 1979). A merge equals the whole up to the rounding of float64.

    Does not know which videos it has seen: the caller counts each once (:class:`.video_rows.VideoRows` checks it).

    Args:
        features: columns D.

    Attributes:
        videos: whose rows were added.
        count: rows.
        mean: (D,).
        scatter: (D, D), the sum over rows of (x - mean)(x - mean)ᵀ.
    """

    def __init__(self, features: int) -> None:
        if features < 1:
            raise ValueError(f"there must be at least one feature, not {features}")
        self.videos = 0
        self.count = 0
        self.mean = np.zeros(features)
        self.scatter = np.zeros((features, features))

    def update(self, rows: np.ndarray, *, videos: int) -> None:
        """Add rows, floating (R, D), of so many videos.

        Raises:
            ValueError: for another shape or dtype, values that are not finite, or videos < 1.
        """
        check_rows(rows)
        if videos < 1:
            raise ValueError(f"rows belong to at least one video, not {videos}")
        part = Moments(rows.shape[1])
        values = rows.astype(np.float64)
        part.videos, part.count, part.mean = videos, len(values), values.mean(axis=0)
        centred = values - part.mean
        part.scatter = centred.T @ centred
        self.merge(part)

    def merge(self, other: Moments) -> None:
        """Add another process's moments, which stay as they are.

        Raises:
            ValueError: if the numbers of features differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"all rows must have the same number of features: {len(self.mean)} and {len(other.mean)}")
        if not other.count:
            return
        count = self.count + other.count
        apart = other.mean - self.mean
        self.mean = self.mean + apart * (other.count / count)
        self.scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        self.count = count
        self.videos += other.videos

    def covariance(self, over: Covariance) -> np.ndarray:
        """The covariance, (D, D), over N (the population's) or N-1 (the unbiased estimate).

        Raises:
            ValueError: for an unknown name, no rows, or one row over N-1.
        """
        if over not in ("N", "N-1"):
            raise ValueError(f"a covariance is over N or N-1, not {over!r}")
        degrees = self.count - (over == "N-1")
        if degrees < 1:
            raise ValueError(f"a covariance over {over} needs more than {self.count} samples")
        return self.scatter / degrees
