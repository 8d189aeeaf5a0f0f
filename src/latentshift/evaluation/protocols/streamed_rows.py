"""Rows of features as metrics take them, streamed from readings: memory does not grow with the number of videos.

Rows are those of some videos, by their indices, that one extractor has made.

Legend of shapes: N videos, R rows of a video, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from latentshift.evaluation.metrics.moments import Moments
from latentshift.evaluation.metrics.video_rows import VideoRows, repeats_said
from latentshift.evaluation.protocols.measure import ExtractorInfo
from latentshift.evaluation.protocols.readings import Readings

_BLOCK_ROWS = 1024
_MOST_NUMBERS = 2**23  # N · R · D that are resampled: 64 MB in float64
_MOST_KERNEL_ROWS = 4096  # N · R of a kernel matrix, which is 128 MB then


def fits_resampling(readings: Readings, info: ExtractorInfo) -> bool:
    """Whether all rows are held in memory, to be resampled."""
    return readings.row_count(info.key) * info.width <= _MOST_NUMBERS


def of_repeats(readings: Readings, info: ExtractorInfo, repeats: int) -> list[np.ndarray]:
    """The indices of each of the equal parts of the plan that has any."""
    indices = readings.with_rows(info.key)
    part = indices * repeats // readings.total
    return [each for number in range(repeats) if len(each := indices[part == number])]


def kernel_rows(readings: Readings, info: ExtractorInfo, seed: int) -> VideoRows:
    """The rows for a kernel matrix: of too many videos a uniform sample."""
    indices = readings.with_rows(info.key)
    each = -(-readings.row_count(info.key) // len(indices))
    return video_rows(readings, info, indices, limit=max(2, _MOST_KERNEL_ROWS // each), seed=seed)


def video_rows(
    readings: Readings, info: ExtractorInfo, indices: np.ndarray, *, limit: int | None = None, seed: int = 0
) -> VideoRows:
    """The rows of videos by video; of more than ``limit`` a uniform sample, drawn with ``seed``."""
    made = VideoRows(limit, seed)
    for index, rows in zip(indices.tolist(), readings.rows(info.key, info.width, indices), strict=True):
        made.add(index, rows)
    return made


def moments(readings: Readings, info: ExtractorInfo, indices: np.ndarray) -> Moments:
    """Count, mean and covariance of the rows of videos."""
    made = Moments(info.width)
    for rows, videos in row_blocks(readings, info, indices):
        made.update(rows, videos=videos)
    return made


def row_blocks(readings: Readings, info: ExtractorInfo, indices: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """The rows of videos in blocks of about ``_BLOCK_ROWS``, with the number of videos in each."""
    block: list[np.ndarray] = []
    count = 0
    for rows in readings.rows(info.key, info.width, indices):
        block.append(rows)
        count += len(rows)
        if count >= _BLOCK_ROWS:
            yield np.concatenate(block), len(block)
            block, count = [], 0
    if block:
        yield np.concatenate(block), len(block)


def repeat_warning(readings: Readings, info: ExtractorInfo, what: str) -> tuple[str, ...]:
    """What :meth:`.VideoRows.repeat_warning` says, of all videos; only rows of equal checksums are read."""
    indices = readings.with_rows(info.key)
    if not len(indices):
        return ()
    checksums = readings.checksums(info.key, indices)
    _, kind, times = np.unique(checksums, axis=0, return_inverse=True, return_counts=True)
    suspected = indices[times[kind.ravel()] > 1]
    different = {hashlib.sha256(rows.tobytes()).digest() for rows in readings.rows(info.key, info.width, suspected)}
    return repeats_said(len(suspected) - len(different), len(indices), what)


def merged_moments(parts: Sequence[Moments]) -> Moments:
    """The moments of all rows, from those of parts of them."""
    made = Moments(len(parts[0].mean))
    for each in parts:
        made.merge(each)
    return made
