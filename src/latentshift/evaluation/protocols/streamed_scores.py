"""Inception scores of readings; of too many to resample the interval leaves out one tenth of the videos at a time."""

from __future__ import annotations

from typing import cast

import numpy as np

from latentshift.evaluation.metrics.inception_score import (
    InceptionScore,
    InceptionSums,
    Outputs,
    few_samples_warning,
    inception_result,
)
from latentshift.evaluation.metrics.jackknife import GROUPS, jackknife_interval, not_below, repeats_interval
from latentshift.evaluation.metrics.result import MetricResult
from latentshift.evaluation.protocols.interval_kinds import BOOTSTRAP, JACKKNIFE, REPEATS
from latentshift.evaluation.protocols.measure import ExtractorInfo
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.streamed_rows import (
    fits_resampling,
    of_repeats,
    repeat_warning,
    row_blocks,
    video_rows,
)

_SPLITS, _SPLIT_SEED = 10, 42  # as in StyleGAN-V's code


def streamed_inception(
    name: str, info: ExtractorInfo, readings: Readings, *, repeats: int, seed: int
) -> tuple[MetricResult, str]:
    """The score over splits, or the mean over repeats; returns it with the kind of its interval."""
    indices = readings.with_rows(info.key)
    if repeats > 1:
        parts = of_repeats(readings, info, repeats)
        values = [_score(info, readings, part, splits=1, seed=None).mean for part in parts]
        result = MetricResult(
            name,
            float(np.mean(values)),
            len(indices),
            readings.row_count(info.key),
            variant="mean over repeats",
            interval=not_below(1.0, repeats_interval(values)),
            repeats=len(parts),
            deviation=float(np.std(values)),
            warnings=_warnings(info, readings, len(parts), "repeat"),
        )
        return result, REPEATS
    splits = min(_SPLITS, len(indices))
    if fits_resampling(readings, info):
        rows, outputs = video_rows(readings, info, indices), cast(Outputs, info.output)
        result = inception_result(name, rows, outputs, splits=splits, seed=_SPLIT_SEED, bootstrap_seed=seed)
        return result, BOOTSTRAP
    score = _score(info, readings, indices, splits=splits, seed=_SPLIT_SEED)
    left_out = [
        _score(info, readings, np.delete(indices, np.s_[number::GROUPS]), splits=splits, seed=_SPLIT_SEED).mean
        for number in range(GROUPS)
    ]
    result = MetricResult(
        name,
        score.mean,
        len(indices),
        readings.row_count(info.key),
        variant=f"{splits} splits, shuffled with seed {_SPLIT_SEED}",
        interval=not_below(1.0, jackknife_interval(score.mean, left_out)),
        deviation=score.deviation if splits > 1 else None,
        warnings=_warnings(info, readings, splits, "split"),
    )
    return result, JACKKNIFE


def _score(
    info: ExtractorInfo, readings: Readings, indices: np.ndarray, *, splits: int, seed: int | None
) -> InceptionScore:
    sums = InceptionSums(readings.row_count(info.key, indices), splits=splits, seed=seed)
    first = 0
    for rows, _ in row_blocks(readings, info, indices):
        sums.add(np.arange(first, first + len(rows)), rows, cast(Outputs, info.output))
        first += len(rows)
    return sums.score()


def _warnings(info: ExtractorInfo, readings: Readings, parts: int, what: str) -> tuple[str, ...]:
    samples, videos = readings.row_count(info.key), len(readings.with_rows(info.key))
    return (
        *repeat_warning(readings, info, "generated"),
        *few_samples_warning(samples, info.width, parts, videos=videos, what=what),
    )
