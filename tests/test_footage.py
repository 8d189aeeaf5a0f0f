"""FootageDataset: the moments, the frames, the pool."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentshift.data import prefetch as prefetch_module
from latentshift.data.footage.decode import probe, read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.prefetch import prefetch, prefetch_if_slow
from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.video import write_video
from pool_work import act
from timed_video import write_video_at

SIDE = 64


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def row(path: Path, **settings: object) -> Row:
    return Row(str(path), ("a clip",), "test", **settings)


def gray(level: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def ramp(path: Path, fps: float, seconds: float = 4.0) -> Path:
    """Gray that rises by 50 levels a second."""
    times = np.arange(round(seconds * fps)) / fps
    return write_video_at(path, times, [gray(20 + round(50 * when)) for when in times])


# --- moments


def test_moments_are_even_and_inside() -> None:
    window = Window(frames=16, seconds=2.0, place="first")
    assert np.allclose(window.moments(1.0, 9.0, rng()), 1 + np.arange(16) / 8)
    centred = Window(place="centre").moments(0.0, 10.0, rng())
    assert centred[0] == 4.0 and centred[-1] == pytest.approx(5.875)
    drawn = [Window().moments(0.0, 10.0, np.random.default_rng(k)) for k in range(200)]
    firsts = np.array([moments[0] for moments in drawn])
    assert firsts.min() >= 0 and firsts.max() <= 8 and 3 < firsts.mean() < 5
    assert all(np.allclose(np.diff(moments), 0.125) for moments in drawn)


def test_a_video_that_is_too_short() -> None:
    with pytest.raises(Rejected, match=r"it lasts 1\.50 s, and a clip takes 2 s"):
        Window().moments(0.0, 1.5, rng())
    held = Window(short="hold").moments(0.0, 1.5, rng())
    assert np.allclose(np.diff(held), 0.125) and held[0] == 0
    shortened = Window(short="shorten").moments(0.0, 1.6, rng())
    assert np.allclose(shortened, np.arange(16) * 0.1)


# --- framing


def test_what_is_left_after_a_crop() -> None:
    cut = Framing(64, 64).draw(rng())
    assert cut.scaled(128, 256) == (64, 128) and cut.scaled(100, 50) == (128, 64)
    picture = np.arange(64 * 128 * 3).reshape(64, 128, 3)
    assert np.array_equal(cut.cut(picture), picture[:, 32:96])
    places = {Framing(64, 64, crop="random").draw(np.random.default_rng(k)).across for k in range(20)}
    assert len(places) == 20
    flips = [Framing(64, 64, flip=True).draw(np.random.default_rng(k)).mirrored for k in range(200)]
    assert 0.35 < np.mean(flips) < 0.65


# --- frames


@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 60])
def test_every_frame_rate_moves_at_the_same_speed(tmp_path: Path, fps: float) -> None:
    clip = read_clip(row(ramp(tmp_path / "a.mp4", fps)), Window(place="first"), Framing(32, 32), rng())
    assert clip.frames.shape == (16, 32, 32, 3)
    moments = np.arange(16) / 8
    assert np.all(clip.times <= moments + 1e-6) and np.all(clip.times > moments - 1 / fps - 1e-6)
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - (20 + 50 * clip.times)).max() < 3


@pytest.mark.parametrize("fps", [8, 12, 24, 30])
def test_a_gif_gives_each_frame_once_whose_times_are_hundredths(tmp_path: Path, fps: int) -> None:
    levels = np.arange(2 * fps, dtype=np.uint8) * 4
    write_video(tmp_path / "a.gif", np.broadcast_to(levels[:, None, None, None], (2 * fps, 16, 16, 3)).copy(), fps=fps)
    clip = read_clip(row(tmp_path / "a.gif"), Window(2 * fps, 2.0, place="first"), Framing(16, 16), rng())
    # Four levels apart.
    assert np.abs(clip.frames[:, 0, 0, 0].astype(int) - levels).max() <= 1


def test_a_varying_frame_rate(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.2, size=40))
    times -= times[0]
    path = write_video_at(tmp_path / "v.mp4", times, [gray(20 + round(40 * when)) for when in times])
    clip = read_clip(row(path), Window(place="first"), Framing(32, 32), rng())
    expected = [times[times <= moment + 1e-6].max() for moment in np.arange(16) / 8]
    assert np.allclose(clip.times, expected, atol=1e-4)


def test_a_row_may_start_and_end_inside_its_file(tmp_path: Path) -> None:
    path = ramp(tmp_path / "a.mp4", 24)
    clip = read_clip(row(path, start=1.5, end=3.5), Window(place="random"), Framing(32, 32), rng())
    assert clip.times[0] == pytest.approx(1.5, abs=0.05) and clip.times[-1] < 3.5
    with pytest.raises(Rejected, match=r"it lasts 1\.00 s, and a clip takes 2 s"):
        read_clip(row(path, start=1.0, end=2.0), Window(), Framing(32, 32), rng())
    with pytest.raises(Rejected, match="its row starts at 9 s"):
        read_clip(row(path, start=9.0), Window(), Framing(32, 32), rng())


def test_a_member_of_a_larger_file_is_read_where_it_lies(tmp_path: Path) -> None:
    path = ramp(tmp_path / "a.mp4", 24)
    (tmp_path / "b.bin").write_bytes(b"?" * 777 + path.read_bytes() + b"?" * 99)
    inside = row(tmp_path / "b.bin", offset=777, size=path.stat().st_size, member="a.mp4")
    window, framing = Window(place="centre"), Framing(32, 32)
    assert np.array_equal(
        read_clip(inside, window, framing, rng()).frames, read_clip(row(path), window, framing, rng()).frames
    )
    picture = tmp_path / "p.png"
    Image.fromarray(gray(90, 40, 80)).save(picture)
    (tmp_path / "b.bin").write_bytes(b"?" * 777 + picture.read_bytes())
    inside = row(tmp_path / "b.bin", offset=777, size=picture.stat().st_size, member="p.png")
    assert read_clip(inside, Window(frames=1), framing, rng()).frames.tolist() == [gray(90, 32, 32).tolist()]


def test_what_a_file_is(tmp_path: Path) -> None:
    info = probe(row(ramp(tmp_path / "a.mp4", 24)))
    assert (info.height, info.width, info.codec) == (SIDE, SIDE, "h264")
    assert info.seconds == pytest.approx(4.0, abs=0.05) and info.fps == pytest.approx(24, abs=0.1)


def test_files_that_are_no_clips(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").write_bytes(b"")
    Image.fromarray(np.zeros((20, 20, 4), dtype=np.uint8)).save(tmp_path / "clear.png")
    for name, kind in (
        ("none.mp4", "missing-file"),
        ("text.mp4", "damaged"),
        ("empty.mp4", "damaged"),
        ("clear.png", "transparent"),
    ):
        with pytest.raises(Rejected) as refused:
            read_clip(row(tmp_path / name), Window(frames=1), Framing(32, 32), rng())
        assert refused.value.kind == kind


# --- the pool


def test_what_goes_wrong_costs_one_item_each() -> None:
    items = ["a", "hang", "b", "crash", "swell", "refuse", "c", "crash", "d"]
    with WorkerPool(act, WorkerLimits(2, 2.0, 2**32)) as pool:
        answers = [answer for _, answer in pool.run(items)]
    shown = [answer.kind if isinstance(answer, Rejected) else answer for answer in answers]
    assert shown == ["A", "timed-out", "B", "crashed", "out-of-memory", "damaged", "C", "crashed", "D"]
    assert "SIGSEGV" in str(answers[3])


def test_being_asked_to_end_is_no_items_fault() -> None:
    with WorkerPool(act, WorkerLimits(1, 20.0)) as pool:
        assert [answer for _, answer in pool.run(["a", "asked", "b"])] == ["A", "ASKED", "B"]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT} == set()


def test_a_run_that_is_given_up_leaves_nothing_to_the_next() -> None:
    with WorkerPool(act, WorkerLimits(2)) as pool:
        run = pool.run(["a", "hang", "b"])
        assert next(run) == ("a", "A")
        run.close()
        assert [answer for _, answer in pool.run(["c", "d", "e"])] == ["C", "D", "E"]


def test_read_ahead_in_threads_one_after_the_other() -> None:
    """A worker that replaces a crashed one must not depend on the thread that started it."""
    with WorkerPool(act, WorkerLimits(2)) as pool:
        for _ in range(4):
            answers = [answer for _, answer in prefetch(pool.run(["a", "crash", "b", "crash"]), 2)]
            shown = [answer.kind if isinstance(answer, Rejected) else answer for answer in answers]
            assert shown == ["A", "crashed", "B", "crashed"]
        reading = prefetch(pool.run(["a", "hang"]), 1, pool.close)
        assert next(reading) == ("a", "A")  # which may have to wait for a new worker
        start = time.monotonic()
        reading.close()
        assert time.monotonic() - start < 40  # and not the minute that an item may take


def test_what_a_thread_raises_is_raised_where_it_is_read() -> None:
    def broken():
        yield 1
        raise ValueError("broken")

    reading = prefetch(broken(), 3)
    assert next(reading) == 1
    with pytest.raises(ValueError, match="broken"):
        next(reading)
    assert list(prefetch(iter(range(50)), 3)) == list(range(50))


def test_only_slow_reading_is_done_in_a_thread() -> None:
    def made_here(seconds: list[float]) -> list[bool]:
        """Whether each item, which takes so long to make, was made in the thread that asked for it."""
        now = [0.0]

        def source() -> Iterator[int]:
            for each in seconds:
                now[0] += each
                yield threading.get_ident()

        here = threading.get_ident()
        return [each == here for each in prefetch_if_slow(source(), 2, lambda: now[0])]

    assert made_here([0.0] * 20) == [True] * 20
    assert made_here([0.01, 0.0, 0.01, 0.0]) == [True] * 4  # one slow item need not be the disk's fault
    assert made_here([0.0, 0.01, 0.01, 0.0, 0.0]) == [True] * 3 + [False] * 2


def test_a_read_that_hangs_does_not_hold_whoever_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a disk that is gone."""
    monkeypatch.setattr(prefetch_module, "_JOIN_TIMEOUT", 0.2)
    comes_back, gone_on = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 1
        comes_back.wait(60)
        gone_on.set()
        yield 2

    reading = prefetch(source(), 2)
    assert next(reading) == 1
    reading.close()
    assert not gone_on.is_set()
    comes_back.set()


def test_many_items_come_back_in_their_order_and_are_not_read_ahead() -> None:
    read: list[int] = []

    def items():
        for number in range(200):
            read.append(number)
            yield str(number)

    with WorkerPool(act, WorkerLimits(3)) as pool:
        for number, (item, answer) in enumerate(pool.run(items())):
            assert item == answer == str(number)
            assert len(read) - number <= 4 * 3 + 1
