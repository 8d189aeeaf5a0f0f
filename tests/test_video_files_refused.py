"""What cannot be written or read as a video is refused, before anything is made and after."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from latentshift.video import (
    check_output,
    read_metadata,
    read_video,
    write_video,
)


def refusals(tmp_path: Path) -> list[tuple[Path, int, float, type[Exception], str]]:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").write_text("mine")
    (tmp_path / "folder.mp4").mkdir()
    return [
        (tmp_path / "a.avi", 16, 8, ValueError, r"unknown suffix \.avi: use \.mp4, \.gif, \.webp, \.png, or no suffix"),
        (tmp_path / "a.png", 2, 8, ValueError, "exactly one frame, not 2"),
        (tmp_path / "a.mp4", 0, 8, ValueError, "at least one frame"),
        (tmp_path / "a.mp4", 4, 0, ValueError, "frames per second"),
        (tmp_path / "a.mp4", 4, float("nan"), ValueError, "frames per second"),
        (tmp_path / "a.gif", 4, 60, ValueError, "60 frames per second: choose from 0.1 to 50"),
        (tmp_path / "file" / "a.mp4", 4, 8, NotADirectoryError, "file is no folder"),
        (tmp_path / "file" / "deep" / "clip", 4, 8, NotADirectoryError, "file is no folder"),
        (tmp_path / "folder.mp4", 4, 8, IsADirectoryError, "existing folder"),
        (tmp_path / "full", 4, 8, FileExistsError, "not empty"),
        (tmp_path / "file", 4, 8, FileExistsError, "existing file"),
    ]


@pytest.mark.parametrize("case", range(11))
def test_refused_early_and_late_alike(tmp_path: Path, case: int) -> None:
    path, num_frames, fps, error, sentence = refusals(tmp_path)[case]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=sentence) as early:
        check_output(path, num_frames, fps=fps)
    with pytest.raises(error, match=sentence):
        write_video(path, np.zeros((num_frames, 8, 8, 3), np.uint8), fps=fps)
    assert str(path) in str(early.value)
    assert "\n" not in str(early.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_folder_that_takes_no_files_is_refused_early() -> None:
    with pytest.raises(PermissionError, match="not writable"):  # whoever asks, root too
        check_output(Path("/proc/a.mp4"), 4)


def test_missing_encoder_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: str) -> None:
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr(av, "Codec", unknown)
    with pytest.raises(OSError, match="no libx264"):
        check_output(tmp_path / "a.mp4", 4)
    check_output(tmp_path / "a.webp", 4)


def test_what_can_be_written_passes_and_leaves_no_trace(tmp_path: Path) -> None:
    for name in ("new/a.mp4", "a.GIF", "a.webp", "new/clip", "v1.2/clip", "."):
        check_output(tmp_path / name, 16)
    check_output(tmp_path / "a.png", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (np.zeros((2, 8, 8, 3)), TypeError),
        (np.zeros((8, 8, 3), np.uint8), ValueError),
        (np.zeros((2, 3, 8, 8), np.uint8), ValueError),
        (np.zeros((2, 0, 8, 3), np.uint8), ValueError),
        (np.zeros((2, 7, 8, 3), np.uint8), ValueError),
    ],
)
def test_frames_that_cannot_be_written_are_refused(tmp_path: Path, frames: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"a\.mp4 (is written from|needs an even)"):
        write_video(tmp_path / "a.mp4", frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "a.xyz"])
def test_what_is_no_video_is_named(tmp_path: Path, name: str) -> None:
    for read in (read_video, read_metadata):
        with pytest.raises(FileNotFoundError, match=name):
            read(tmp_path / name)
    for content in (b"", b"no video at all" * 99):
        (tmp_path / name).write_bytes(content)
        for read in (read_video, read_metadata):
            with pytest.raises(ValueError, match=rf"{name} can't be decoded"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "clip"])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(path, np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8))
    cut = path if path.suffix else path / "00003.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name} can't be decoded"):
        read_video(path)


def test_an_empty_folder_holds_no_clip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be decoded"):
        read_video(tmp_path)
