"""Frames are written while the next ones are made; and whatever fails, on either side, ends both and leaves no file."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from latentshift.video import write_chunks
from latentshift.video.writer_thread import write_in_thread
from waiting import wait_for

STREAMED = ("clip.mp4", "clip")
SOON = 60.0  # seconds, for what is there at once unless it never comes


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def chunk(number: int = 0) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (2, 64, 64, 3), np.uint8)


def test_a_chunk_is_written_while_the_next_is_made() -> None:
    being_made = [threading.Event() for _ in range(4)]
    written: list[int] = []

    def chunks() -> Iterator[np.ndarray]:
        for number, event in enumerate(being_made):
            event.set()
            assert number - 1 <= len(written), "made further ahead than one chunk"
            yield np.full((1, 2, 2, 3), number, np.uint8)

    def write(chunks: Iterable[np.ndarray]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        for number, each in enumerate(chunks):
            assert each[0, 0, 0, 0] == number
            if number < 3:
                assert being_made[number + 1].wait(SOON), "the next chunk waits until this one is written"
            written.append(number)

    write_in_thread(chunks(), write)
    assert written == [0, 1, 2, 3]


@pytest.mark.parametrize("name", STREAMED)
def test_a_full_disk_ends_the_making_of_frames(tmp_path: Path, name: str) -> None:
    made = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal made
        for made in range(1, 1001):
            yield chunk(made)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # as a disk with so little left
    try:
        with pytest.raises(OSError, match=rf"{name} could not be written: .*[Ff]ile too large"):
            write_chunks(tmp_path / name, chunks(), 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 1 <= made < 500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_what_fails_in_the_making_of_frames_ends_the_writing(
    tmp_path: Path, name: str, number: int, kind: type[BaseException]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"a former file")

    def chunks() -> Iterator[np.ndarray]:
        yield from map(chunk, range(number))
        if kind is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        raise kind("no more frames")

    with pytest.raises(kind):
        write_chunks(tmp_path / name, chunks(), 8)
    assert os.listdir(tmp_path) == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"a former file"


def test_an_interrupt_while_the_writer_is_waited_for_ends_both() -> None:
    writing = threading.Event()
    seen: list[BaseException] = []

    def write(chunks: Iterable[np.ndarray]) -> None:
        try:
            for _ in chunks:
                writing.wait(SOON)
        except BaseException as error:
            seen.append(error)
            raise

    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        writing.set()

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        write_in_thread(map(chunk, range(1000)), write)
    timer.join()
    assert [str(error) for error in seen] == ["the frames end here"]


def test_an_interrupt_while_the_thread_starts_leaves_no_writer_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted_start(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    seen: list[str] = []

    def write(chunks: Iterable[np.ndarray]) -> None:
        try:
            list(chunks)
        except Exception as error:
            seen.append(str(error))

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt):
        write_in_thread(map(chunk, range(3)), write)
    wait_for(lambda: "writer" not in [thread.name for thread in threading.enumerate()])
    assert seen == ["the frames end here"]
