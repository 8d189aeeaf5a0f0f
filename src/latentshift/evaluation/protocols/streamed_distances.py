"""Fréchet and kernel distances of readings to those of reference videos.

Memory does not grow with the number of videos: what is resampled is bounded. Beyond the bound the interval of a Fréchet
distance comes from leaving out one tenth of the videos at a time, and a kernel distance from a uniform sample of them.

Legend of shapes: D features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latentshift.evaluation.metrics.frechet import frechet_distance, frechet_result
from latentshift.evaluation.metrics.jackknife import GROUPS, jackknife_interval, not_below, repeats_interval
from latentshift.evaluation.metrics.kernel import CMMD_SCALE, GaussianKernel, PolynomialKernel, kernel_result
from latentshift.evaluation.metrics.moments import Covariance, Moments
from latentshift.evaluation.metrics.result import MetricResult, covariance_warnings
from latentshift.evaluation.metrics.video_rows import VideoRows
from latentshift.evaluation.protocols.interval_kinds import BOOTSTRAP, JACKKNIFE, REPEATS
from latentshift.evaluation.protocols.measure import ExtractorInfo
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.streamed_rows import (
    fits_resampling,
    kernel_rows,
    merged_moments,
    moments,
    of_repeats,
    repeat_warning,
    video_rows,
)

_MOST_WIDTH = 512  # D of a covariance that is resampled: each takes two decompositions of (D, D)


def streamed_frechet(
    name: str,
    info: ExtractorInfo,
    generated: Readings,
    reference: Readings,
    *,
    covariance: Covariance,
    repeats: int,
    seed: int,
) -> tuple[MetricResult, str]:
    """The Fréchet distance, over repeats their mean; returns it with the kind of its interval."""
    indices, theirs = generated.with_rows(info.key), reference.with_rows(info.key)
    if repeats > 1:
        against = moments(reference, info, theirs)
        parts = [moments(generated, info, part) for part in of_repeats(generated, info, repeats)]
        values = [frechet_distance(part, against, covariance=covariance) for part in parts]
        result = MetricResult(
            name,
            float(np.mean(values)),
            sum(part.videos for part in parts),
            sum(part.count for part in parts),
            variant=f"covariance over {covariance}, mean over repeats",
            interval=not_below(0.0, repeats_interval(values)),
            n_reference=against.videos,
            repeats=len(parts),
            deviation=float(np.std(values)),
            warnings=_warnings(info, generated, reference, min(parts, key=lambda part: part.count), against),
        )
        return result, REPEATS
    if info.width <= _MOST_WIDTH and fits_resampling(generated, info):
        whole = fits_resampling(reference, info)
        other = video_rows(reference, info, theirs) if whole else moments(reference, info, theirs)
        rows = video_rows(generated, info, indices)
        return frechet_result(name, rows, other, covariance=covariance, seed=seed), BOOTSTRAP
    against = moments(reference, info, theirs)
    groups = [moments(generated, info, indices[number::GROUPS]) for number in range(GROUPS)]
    merged = merged_moments(groups)
    value = frechet_distance(merged, against, covariance=covariance)
    left_out = [
        frechet_distance(merged_moments(groups[:number] + groups[number + 1 :]), against, covariance=covariance)
        for number in range(GROUPS)
    ]
    result = MetricResult(
        name,
        value,
        merged.videos,
        merged.count,
        variant=f"covariance over {covariance}",
        interval=not_below(0.0, jackknife_interval(value, left_out)),
        n_reference=against.videos,
        warnings=_warnings(info, generated, reference, merged, against),
    )
    return result, JACKKNIFE


def streamed_kernel(
    name: str, info: ExtractorInfo, generated: Readings, reference: Readings, *, seed: int
) -> MetricResult:
    """The unbiased kernel distance."""
    ours, theirs = (kernel_rows(each, info, seed) for each in (generated, reference))
    result = kernel_result(name, ours, theirs, kernel=PolynomialKernel(), estimator="unbiased", seed=seed)
    return _with_samples(result, ours, theirs)


def streamed_cmmd(
    name: str, info: ExtractorInfo, generated: Readings, reference: Readings, *, seed: int
) -> MetricResult:
    """CMMD, as its authors' code has it: a Gaussian kernel of unit rows, biased, times 1000."""
    ours, theirs = (kernel_rows(each, info, seed) for each in (generated, reference))
    result = kernel_result(
        name,
        ours,
        theirs,
        kernel=GaussianKernel(),
        estimator="biased",
        scale=CMMD_SCALE,
        unit=True,
        seed=seed,
    )
    return _with_samples(result, ours, theirs)


def _with_samples(result: MetricResult, generated: VideoRows, reference: VideoRows) -> MetricResult:
    sampled = tuple(
        f"Computed on a uniform sample of {len(rows):,} of {rows.seen:,} {what} videos."
        for rows, what in ((generated, "generated"), (reference, "reference"))
        if len(rows) < rows.seen
    )
    return replace(result, warnings=result.warnings + sampled)


def _warnings(
    info: ExtractorInfo, generated: Readings, reference: Readings, ours: Moments, theirs: Moments
) -> tuple[str, ...]:
    """Of videos that repeat others, and of covariances of too few."""
    return (
        *repeat_warning(generated, info, "generated"),
        *repeat_warning(reference, info, "reference"),
        *covariance_warnings((ours.count, ours.videos), (theirs.count, theirs.videos), info.width),
    )
