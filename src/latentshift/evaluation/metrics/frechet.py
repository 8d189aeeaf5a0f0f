"""Fréchet distance between Gaussians fitted to features: FID on frames, FVD on clips.

FID: Heusel et al. 2017, arXiv 1706.08500, Eq. 6. FVD: Unterthiner et al. 2018, arXiv 1812.01717. The same formula;
which features, and so which name, is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentshift.evaluation.metrics.bootstrap import bootstrap_interval
from latentshift.evaluation.metrics.moments import Covariance, Moments
from latentshift.evaluation.metrics.result import MetricResult, covariance_warnings, few_videos_warning
from latentshift.evaluation.metrics.video_rows import VideoRows

RESAMPLES = 200  # of an interval; each takes an eigendecomposition


def frechet_distance(first: Moments, second: Moments, *, covariance: Covariance) -> float:
    """‖μ₁ - μ₂‖² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½, >= 0.

    With factors Σ = L Lᵀ from the eigendecomposition, the last trace is the sum of the square roots of the eigenvalues
    of the symmetric L₁ᵀ Σ₂ L₁, taken as the singular values of L₁ᵀ L₂. Eigenvalues below the rounding of the largest
    count as zero. So it is exact for covariances of any rank; a matrix square root of Σ₁ Σ₂ is not, and has given
    negative distances.

    Args:
        covariance: what both covariances divide by. StyleGAN-V and cd-fvd: ``N``; torchmetrics, pytorch-fid and
            common_metrics_on_video_quality: ``N-1``.

    Raises:
        ValueError: for different numbers of features, or too few samples for the covariance.
    """
    return _distance(_fit(first, covariance), _fit(second, covariance))


def frechet_result(
    name: str,
    generated: VideoRows | Moments,
    reference: VideoRows | Moments,
    *,
    covariance: Covariance,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MetricResult:
    """The Fréchet distance with a bootstrap interval over the generated videos; the reference is taken as given.

    Args:
        name: ``FID`` or ``FVD``, with what a reader must know of the features.
        generated: with :class:`Moments` there is no interval, since they no longer know the videos.
        covariance: see :func:`frechet_distance`.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: as :func:`frechet_distance`.
    """
    ours, theirs = _moments_of(generated), _moments_of(reference)
    fixed = _fit(theirs, covariance)
    value = _distance(_fit(ours, covariance), fixed)
    interval = None
    counts = (ours.count, ours.videos), (theirs.count, theirs.videos)
    warnings = list(covariance_warnings(*counts, len(ours.mean)))
    if isinstance(generated, VideoRows):
        rows = generated.by_video()

        def resampled(chosen: np.ndarray) -> float:
            return _distance(_fit(_moments([rows[index] for index in chosen]), covariance), fixed)

        interval = bootstrap_interval(resampled, len(rows), value, seed=seed, resamples=resamples)
        if interval:
            interval = max(interval[0], 0.0), interval[1]
        warnings += few_videos_warning(len(rows))
    for each, what in ((generated, "generated"), (reference, "reference")):
        if isinstance(each, VideoRows):
            warnings += each.repeat_warning(what)
    return MetricResult(
        name,
        value,
        ours.videos,
        ours.count,
        variant=f"covariance over {covariance}",
        interval=interval,
        n_reference=theirs.videos,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True)
class _Gaussian:
    mean: np.ndarray  # (D,)
    factor: np.ndarray  # (D, rank), covariance = factor factorᵀ
    trace: float  # of the covariance


def _fit(moments: Moments, covariance: Covariance) -> _Gaussian:
    values, vectors = np.linalg.eigh(moments.covariance(covariance))
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return _Gaussian(moments.mean, vectors[:, kept] * np.sqrt(values[kept]), float(values[kept].sum()))


def _distance(first: _Gaussian, second: _Gaussian) -> float:
    if len(first.mean) != len(second.mean):
        raise ValueError(f"both sides must have the same features: {len(first.mean)} and {len(second.mean)}")
    product = first.factor.T @ second.factor
    cross = float(np.linalg.svd(product, compute_uv=False).sum()) if product.size else 0.0
    apart = float(((first.mean - second.mean) ** 2).sum())
    return max(apart + first.trace + second.trace - 2 * cross, 0.0)


def _moments_of(features: VideoRows | Moments) -> Moments:
    return features if isinstance(features, Moments) else _moments(features.by_video())


def _moments(videos: Sequence[np.ndarray]) -> Moments:
    moments = Moments(videos[0].shape[1])
    moments.update(np.concatenate(videos), videos=len(videos))
    return moments
