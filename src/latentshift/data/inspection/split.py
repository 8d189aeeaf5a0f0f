"""Split long videos at scene changes into rows of a manifest: start and end times, without re-encoding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from latentshift.data.footage.scenes import find_scenes
from latentshift.data.manifest import Entry, RejectedRow, Row
from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits, WorkerPool

_MAX_THRESHOLD = 255  # of a difference of 8-bit pixels


@dataclass(frozen=True)
class SplitTask:
    """A video to split.

    Attributes:
        row: the video, with its captions.
        shortest: seconds; shorter scenes are rejected.
        longest: seconds; longer scenes become several rows of equal length.
        threshold: of PySceneDetect's content detector, 0 … 255; lower finds more cuts.
    """

    row: Row
    shortest: float
    longest: float
    threshold: float


def check_split(shortest: float, longest: float, threshold: float) -> None:
    """Refuse settings that no video can be split by; they are as in :class:`SplitTask`.

    Raises:
        ValueError: for a duration that is none, a threshold out of range, or ``longest`` below twice ``shortest``.
    """
    if not 0 < shortest < math.inf:
        raise ValueError(f"the shortest row must last a finite number of seconds above 0, not {shortest:g}")
    if not 2 * shortest <= longest:  # else a scene could be too long for one row and too short for two
        raise ValueError(
            f"the longest row must last twice as long as the shortest or more, not {longest:g} s to {shortest:g} s"
        )
    if not 0 <= threshold <= _MAX_THRESHOLD:
        raise ValueError(f"--threshold must be from 0 to {_MAX_THRESHOLD}, not {threshold:g}")


def split_rows(
    rows: Iterable[Row], shortest: float, longest: float, threshold: float, limits: WorkerLimits
) -> Iterator[tuple[Row, list[Entry]]]:
    """Each row with the rows it is split into, in order.

    Images have no scenes and are passed through.

    Raises:
        ValueError: as :func:`check_split`.
    """
    check_split(shortest, longest, threshold)
    tasks = (SplitTask(row, shortest, longest, threshold) for row in rows)
    with WorkerPool(split_video, limits, ("av", "scenedetect")) as pool:
        for task, result in pool.run(tasks):
            row = task.row
            if isinstance(result, Rejected):
                yield row, [RejectedRow(row.name, result.kind, result.reason)]
            else:
                yield row, result


def split_video(task: SplitTask) -> list[Entry]:
    """The rows of a video, scene by scene; runs in worker processes.

    Raises:
        Rejected: for a video that can't be decoded.
    """
    row = task.row
    if row.is_image:
        return [row]
    entries: list[Entry] = []
    for start, end in find_scenes(row, task.threshold):
        if end - start < task.shortest:
            named = replace(row, start=start, end=end)
            reason = f"its scene lasts {end - start:.2f} s, and the shortest row {task.shortest:g} s"
            entries.append(RejectedRow(named.name, "too-short", reason))
            continue
        parts = math.ceil((end - start) / task.longest - 1e-9)
        edges = [start + (end - start) * part / parts for part in range(parts)]
        times = [_rounded(edge) for edge in (*edges, end)]
        entries += [replace(row, start=first, end=last) for first, last in pairwise(times)]
    return entries


def _rounded(seconds: float) -> float:
    """Rounded up to microseconds: rounding down could select the last frame of the previous scene."""
    return math.ceil(seconds * 1e6) / 1e6
