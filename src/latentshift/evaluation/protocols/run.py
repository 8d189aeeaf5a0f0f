"""Measure a plan: what is left of it, shared out over the workers.

Legend of shapes: F frames, H and W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latentshift.data.rejected import Rejected
from latentshift.evaluation.protocols.measure import Measurer
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import DoneCounter, Reading
from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
from latentshift.files import explain_full_disk
from latentshift.progress import progress_bar

# Index, item, uint8 (F, H, W, 3) or why there is none, and where it lies.
Video = tuple[int, Item, np.ndarray | Rejected, str | None]
Keep = Callable[[Reading, np.ndarray], str | None]  # writes a video if it is to stay; the file relative to the result
MakeVideos = Callable[[Iterable[tuple[int, Item]]], Iterator[Video]]

_REFRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Worker:
    """One of the processes that share a plan.

    Attributes:
        number: 0 … ``count`` - 1.
        count: of all.
        barrier: waits until all of them are at it.
        watch: passes finished items on, while the others see that there are some.
    """

    number: int = 0
    count: int = 1
    barrier: Callable[[], object] = lambda: None
    watch: Callable[[Iterator[int]], Iterator[int]] = iter

    @property
    def is_first(self) -> bool:
        """Whether it is the one that shows progress and writes the report."""
        return self.number == 0


def measure_plan(
    folder: Path,
    items: Sequence[Item],
    make: MakeVideos,
    measurer: Measurer,
    worker: Worker,
    text: str,
    keep: Keep | None = None,
    *,
    prefix: bool = False,
) -> list[int]:
    """Make and measure this worker's share of what is left; the videos' order and numbers do not depend on the share.

    Args:
        folder: of the readings.
        items: the plan.
        make: the videos of some items, in their order, as they are consumed.
        measurer: of all workers the same.
        worker: this one.
        text: of the progress bar.
        keep: called with each measured video.
        prefix: whether the plan may be the beginning of a longer one that was measured in the folder.

    Returns:
        Indices of the videos that were left for all workers together.

    Raises:
        ValueError: if the folder's readings are damaged, or another process writes them.
        OSError: if the disk is full; what was measured is kept.
    """
    left = left_of(folder, items, prefix=prefix)
    worker.barrier()  # all have seen the same before one of them adds to it
    counter, shown = DoneCounter(folder), 0.0

    def count() -> int:  # of all workers
        return min(counter.count(), len(items))

    bar = progress_bar(total=len(items), initial=len(items) - len(left), text=text, unit="video", shown=worker.is_first)
    with bar:
        share = left[worker.number :: worker.count]
        for _ in worker.watch(measure_share(folder, items, share, make, measurer, worker.number, keep)):
            if time.monotonic() - shown > _REFRESH_SECONDS and not bar.disable:
                bar.update(count() - bar.n)
                shown = time.monotonic()
        bar.update(count() - bar.n)
    worker.barrier()
    return left


def left_of(folder: Path, items: Sequence[Item], *, prefix: bool = False) -> list[int]:
    """Indices of the videos that are not done, or may be another time; ``prefix`` as for :func:`measure_plan`."""
    left: list[int] = Readings(folder, len(items), prefix=prefix).left.tolist()
    return left


def measure_share(
    folder: Path,
    items: Sequence[Item],
    indices: Iterable[int],
    make: MakeVideos,
    measurer: Measurer,
    number: int,
    keep: Keep | None = None,
) -> Iterator[int]:
    """Make and measure some videos as a worker of this number; yields the index of each when it is kept."""
    share = ((index, items[index]) for index in indices)
    remedy = f"what is measured is kept in {folder}, and the same command resumes there"
    with explain_full_disk(folder, remedy), ReadingsWriter(folder, number, measurer.widths) as writer:
        for index, item, video, file in make(share):
            reading, rows = measurer(index, item, video, file)
            if keep is not None and not isinstance(video, Rejected):
                reading = replace(reading, file=keep(reading, video) or reading.file)
            writer.append(reading, rows)
            yield index


def check_complete(readings: Readings, what: str) -> None:
    """Refuse readings from which no number can be made.

    Args:
        readings: of a plan.
        what: name of the set, for the message.

    Raises:
        ValueError: if videos are missing, or none could be used.
    """
    missing = int((~readings.done).sum())
    if missing:
        raise ValueError(f"{missing:,} of {readings.total:,} videos of {what} are not measured yet: run it again")
    if not len(readings.measured):
        first = next(readings.rejected())
        name = first.file or first.prompt
        raise ValueError(f"none of the {readings.total:,} videos of {what} can be used; {name}: {first.rejected}")
