"""Long videos cut at their scene changes, into rows of a manifest: nothing is encoded again, only times are noted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from latentshift.data.footage.scenes import find_scenes
from latentshift.data.manifest import Entry, RejectedRow, Row
from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits, WorkerPool


@dataclass(frozen=True)
class Cutting:
    """How a video is cut.

    Attributes:
        row: the video, with its captions.
        shortest: seconds; shorter scenes are left out.
        longest: seconds; longer scenes become several rows of even length.
        threshold: of PySceneDetect's content detector, 0 … 255; lower finds more cuts.
    """

    row: Row
    shortest: float
    longest: float
    threshold: float


def split_rows(
    rows: Iterable[Row], shortest: float, longest: float, threshold: float, limits: WorkerLimits
) -> Iterator[tuple[Row, list[Entry]]]:
    """Each row with what it becomes, in order.

    An image, which has no scenes, stays as it is.

    Raises:
        ValueError: if ``longest`` is less than twice ``shortest``.
    """
    if not 0 < 2 * shortest <= longest:  # else a scene could be too long for one row and too short for two
        raise ValueError(
            f"the longest row must last twice as long as the shortest or more, not {longest:g} s to {shortest:g} s"
        )
    cuttings = (Cutting(row, shortest, longest, threshold) for row in rows)
    with WorkerPool(cut, limits, ("av", "scenedetect")) as pool:
        for cutting, answer in pool.run(cuttings):
            row = cutting.row
            if isinstance(answer, Rejected):
                yield row, [RejectedRow(row.name, answer.kind, answer.reason)]
            else:
                yield row, answer


def cut(cutting: Cutting) -> list[Entry]:
    """One video's rows, scene by scene; runs in worker processes.

    Raises:
        Rejected: for a video that can't be decoded.
    """
    row = cutting.row
    if row.is_image:
        return [row]
    entries: list[Entry] = []
    for start, end in find_scenes(row, cutting.threshold):
        if end - start < cutting.shortest:
            named = replace(row, start=start, end=end)
            reason = f"its scene lasts {end - start:.2f} s, and the shortest row {cutting.shortest:g} s"
            entries.append(RejectedRow(named.name, "too-short", reason))
            continue
        parts = math.ceil((end - start) / cutting.longest - 1e-9)
        edges = [start + (end - start) * part / parts for part in range(parts)]
        times = [_rounded(edge) for edge in (*edges, end)]
        entries += [replace(row, start=first, end=last) for first, last in pairwise(times)]
    return entries


def _rounded(seconds: float) -> float:
    """To microseconds, and up: a little less would be the frame before, which is of another scene."""
    return math.ceil(seconds * 1e6) / 1e6
