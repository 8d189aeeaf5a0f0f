"""Long videos cut where their scenes change."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from latentshift.data.footage.decode import read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.scenes import THRESHOLD, find_scenes
from latentshift.data.footage.window import Window
from latentshift.data.inspection.split import split_rows
from latentshift.data.manifest import Manifest, RejectedRow, Row
from latentshift.data.worker_pool import WorkerLimits
from timed_video import write_video_at

FPS = 30
SCENES = (0, 66, 81, 150)  # frames: 2.2 s, 0.5 s, 2.3 s


def colours(number: int) -> np.ndarray:
    """Three scenes of other colours; in each a square moves by."""
    scene = sum(number >= first for first in SCENES[1:])
    picture = np.full((64, 64, 3), [(220, 30, 30), (10, 40, 10), (150, 150, 250)][min(scene, 2)], dtype=np.uint8)
    left = number * 2 % 64
    picture[20:40, left : left + 16] = 230
    return picture


@pytest.fixture
def video(tmp_path: Path) -> Row:
    times = np.arange(SCENES[-1]) / FPS
    path = write_video_at(tmp_path / "v.mp4", times, [colours(number) for number in range(SCENES[-1])])
    return Row(str(path), ("three scenes",), "test", split="train")


def test_scenes_begin_where_they_do(video: Row) -> None:
    edges = [number / FPS for number in SCENES]
    scenes = find_scenes(video, THRESHOLD)
    assert np.allclose(scenes, list(itertools.pairwise(edges)), atol=1e-3)


def test_a_video_becomes_rows_that_hold_one_scene_each(video: Row) -> None:
    ((row, entries),) = split_rows([video], shortest=1.0, longest=2.2, threshold=THRESHOLD, limits=WorkerLimits(1))
    assert row == video
    rows = [entry for entry in entries if isinstance(entry, Row)]
    (short,) = [entry for entry in entries if isinstance(entry, RejectedRow)]
    assert short.kind == "too-short" and short.reason == "its scene lasts 0.50 s, and the shortest row 1 s"
    expected = [(0.0, 2.2), (2.7, 3.85), (3.85, 5.0)]  # 2.3 s are more than the longest: two of the same length
    assert np.allclose([(each.start, each.end) for each in rows], expected, atol=1e-3)
    assert all(each.captions == video.captions and each.split == "train" for each in rows)
    for each, colour in zip(rows, [0, 2, 2], strict=True):
        clip = read_clip(each, Window(8, 1.0, "first"), Framing(32, 32), np.random.default_rng(0))
        assert each.start - 1 / FPS < clip.times[0] < each.start + 1e-3
        assert (clip.frames[:, 0, 0].argmax(axis=-1) == colour).all()  # and never the frame before, of another scene
    again = [entry for _, entries in split_rows(rows[:2], 1.0, 2.2, THRESHOLD, WorkerLimits(1)) for entry in entries]
    assert again == rows[:2]


def test_lengths_that_contradict_each_other(video: Row) -> None:
    with pytest.raises(ValueError, match="twice as long as the shortest or more, not 5 s to 3 s"):
        list(split_rows([video], 3.0, 5.0, THRESHOLD, WorkerLimits(1)))


def test_the_command_line_writes_a_manifest(cli, video: Row) -> None:
    Path("clips").mkdir()
    Path(video.file).rename("clips/v.mp4")
    Path("clips/v.txt").write_text("three scenes")
    Path("clips/w.mp4").write_text("no video")
    Path("clips/w.txt").write_text("nothing")
    code, out, err = cli("data", "split", "clips", "-o", "rows.jsonl", "--workers", 1)
    assert (code, err) == (0, "")
    assert out.startswith("2 videos became 2 rows; 2 left out\nrefused ") and "the shortest row 2 s" in out
    assert [row.start for row in Manifest(Path("rows.jsonl"))] == [0.0, pytest.approx(2.7, abs=1e-3)]
    for words, message in (
        (["-o", "rows.txt"], "error: -o must name a .jsonl file, not rows.txt"),
        (["-o", "x.jsonl", "--shortest", 9, "--longest", 18], "error: clips gives no scene of 9 s or more;"),
        (["-o", "x.jsonl", "--shortest", 9], "error: the longest row must last twice as long as the shortest"),
    ):
        code, out, err = cli("data", "split", "clips", *words)
        assert (code, out) == (1, "") and err.startswith(message)
    assert not Path("x.jsonl").exists()
