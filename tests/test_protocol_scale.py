"""Memory does not grow with what is measured: at all captions of MSR-VTT it is what the index of the readings takes."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from latentshift.evaluation.protocols import interval_kinds, streamed_rows
from latentshift.evaluation.protocols.measure import Measurer
from latentshift.evaluation.protocols.paper_prompts import MSRVTT_CAPTIONS
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.run import Worker, measure_plan
from latentshift.evaluation.protocols.summary import summarize
from launch import Processes
from stand_in_extractors import StandIn, StandInClip

BYTES_A_VIDEO = 1000  # the index and a few numbers; the rows of a video are 6,400 below
ROWS, WIDTH = 25, 64


class Wide(StandIn):
    """Rows of 6,400 bytes a video, of no work."""

    def __init__(self) -> None:
        super().__init__("inception-2015", "frame", "features", WIDTH)

    def __call__(self, videos) -> np.ndarray:
        seed = int(videos[0, 0, 0, 0, 0])
        return np.random.default_rng(seed).random((1, ROWS, WIDTH), np.float32)


def videos(items: Iterable[tuple[int, Item]]):
    for index, item in items:
        yield index, item, np.full((2, 2, 2, 3), index % 251, np.uint8), None


def run(folder: Path, count: int) -> None:
    """Measure so many videos and sum them up."""
    items = [Item(f"prompt {index}", index) for index in range(count)]
    true = [Item(file=f"{index}.mp4") for index in range(100)]
    measurer = Measurer({"inception-2015": Wide(), "clip": StandInClip(4)})
    measure_plan(folder / "reference", true, videos, measurer, Worker(), "reference")
    measure_plan(folder / "readings", items, videos, measurer, Worker(), "videos")
    readings, reference = Readings(folder / "readings", count), Readings(folder / "reference", 100)
    made = summarize(readings, measurer.infos, reference)
    assert {each.name: each.n for each in made.metrics}["CLIPSIM"] == count
    assert {each.interval_kind for each in made.metrics} == {interval_kinds.JACKKNIFE, interval_kinds.BOOTSTRAP}


def traced_peak(folder: Path, count: int) -> int:
    """Bytes of Python and numpy at the most."""
    tracemalloc.start()
    try:
        run(folder, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_rows, "_MOST_NUMBERS", 2**14)
    monkeypatch.setattr(streamed_rows, "_MOST_KERNEL_ROWS", 2**9)
    few, many = traced_peak(tmp_path / "few", 200), traced_peak(tmp_path / "many", 800)
    assert many - few < 600 * BYTES_A_VIDEO


def run_and_tell(folder: Path, count: int) -> None:
    """In a process of its own: tracing every allocation would take minutes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(folder, count)
    (folder / "grown").write_text(str(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))


@pytest.mark.slow
def test_memory_at_all_captions_of_msrvtt(tmp_path: Path) -> None:
    grown = []
    for count in (6000, MSRVTT_CAPTIONS):  # both beyond what is resampled
        folder = tmp_path / str(count)
        with Processes(run_and_tell, folder, count) as process:
            assert process.ended(600) == [0], process.last_words()
        grown.append(int((folder / "grown").read_text()))
    assert grown[1] - grown[0] < (MSRVTT_CAPTIONS - 6000) * BYTES_A_VIDEO, grown
