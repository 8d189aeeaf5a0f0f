"""True videos of a data set, as its reader lists them: frames of a window of time, square and small.

Legend of shapes: F frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from latentshift.data.content import content_hash
from latentshift.data.footage.decode import IMPORTS, read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.prefetch import prefetch
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.run import Video

_AHEAD = 4


def items_of_rows(rows: Sequence[Row]) -> list[Item]:
    """The plan of a data set's videos."""
    return [Item(file=row.name, content=_content(row)) for row in rows]


def row_videos(
    rows: Sequence[Row], window: Window, framing: Framing, limits: WorkerLimits, items: Iterable[tuple[int, Item]]
) -> Iterator[Video]:
    """The videos of some items, uint8 (F, S, S, 3) each, or why it can't be used.

    Args:
        rows: of the whole plan.
        window: of time; its place is not drawn.
        framing: its crop is not drawn.
        limits: of the decoding processes.
        items: index and item of each.
    """
    tasks = (_Task(index, item, rows[index], window, framing) for index, item in items)
    with WorkerPool(_read, limits, IMPORTS) as pool:
        for task, result in prefetch(pool.run(tasks), _AHEAD, pool.close):
            yield task.index, task.item, result, task.item.file


@dataclass(frozen=True)
class _Task:
    index: int
    item: Item
    row: Row
    window: Window
    framing: Framing


def _read(task: _Task) -> np.ndarray:
    return read_clip(task.row, task.window, task.framing, np.random.default_rng(0)).frames


def _content(row: Row) -> str:
    try:
        return content_hash(row.file, row.offset or 0, row.size)
    except OSError as error:
        return f"unreadable: {error.strerror}"
