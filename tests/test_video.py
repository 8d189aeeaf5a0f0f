"""Clips go to files and come back: pixels, frame rate and metadata, whole or not at all, always the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from latentshift.video import (
    read_metadata,
    read_video,
    write,
    write_chunks,
    write_video,
)

LOSSLESS = ("clip.webp", "clip")
ALL = ("clip.mp4", "clip.gif", *LOSSLESS)
METADATA = {
    "prompt": 'a "rote" Kügel, 漢字 \U0001f600\n\x00 <b>',
    "seed": 2**40,
    "steps": [1, 2.5, None],
    "long": "é" * 70_000,
}


def blob(num_frames: int = 16, size: int = 64) -> np.ndarray:
    """A soft, coloured disc that moves over a slope of grey."""
    y, x = np.mgrid[:size, :size] / size
    clip = np.empty((num_frames, size, size, 3), np.uint8)
    for index in range(num_frames):
        distance = np.hypot(x - 0.3 - 0.4 * index / num_frames, y - 0.5)
        mask = np.clip((0.22 - distance) / 0.12 + 0.5, 0, 1)[..., None]
        ground = (60 + 60 * x + 40 * y)[..., None]
        clip[index] = np.rint(ground * (1 - mask) + np.array([230, 40, 40]) * mask)
    return clip


def noise(num_frames: int = 5, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def digest(path: Path) -> dict[str, str]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name if path.is_dir() else "": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def local_palettes(gif: bytes) -> list[bool]:
    """Which frames of a .gif bring a palette of their own."""
    position = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    local = []
    while gif[position] != 0x3B:
        if gif[position] == 0x2C:  # a frame: place, size, flags, code size, data
            local.append(bool(gif[position + 9] & 0x80))
            position += 11
        else:  # an extension: label, data
            position += 2
        while gif[position]:
            position += gif[position] + 1
        position += 1
    return local


# --- there and back


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("fps", [8, 7.5, 30000 / 1001])
def test_lossless_kinds_keep_every_pixel(tmp_path: Path, name: str, fps: float) -> None:
    for clip in (noise(), noise(1), blob()):
        path = tmp_path / f"{len(clip)}-{clip.shape[1]}" / name
        write_video(path, clip, fps=fps)
        frames, read_fps = read_video(path)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, clip)
        assert read_fps == fps


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_clip_that_comes_in_chunks_is_the_same_file(tmp_path: Path, name: str, size: int) -> None:
    clip = noise(5, 8, 6)
    write_video(tmp_path / "at-once" / name, clip, fps=8, metadata=METADATA, loop=True)
    pieces = [clip[start : start + size] for start in range(0, 5, size)]
    write_chunks(tmp_path / "in-chunks" / name, iter(pieces), 5, fps=8, metadata=METADATA, loop=True)
    assert digest(tmp_path / "at-once" / name) == digest(tmp_path / "in-chunks" / name)


@pytest.mark.parametrize(("name", "most"), [("clip.mp4", 2), ("clip.webp", 1), ("clip", 2)])
def test_chunks_are_not_kept_once_they_are_written(tmp_path: Path, name: str, most: int) -> None:
    """Beside the one that is made: that which is being written, and that which the writer has just done with."""
    made: list[weakref.ref[np.ndarray]] = []

    def chunks() -> Iterator[np.ndarray]:
        for _ in range(6):
            assert sum(chunk() is not None for chunk in made) <= most
            chunk = noise(2, 8, 8)
            made.append(weakref.ref(chunk))
            yield chunk
            del chunk

    write_chunks(tmp_path / name, chunks(), 12)
    assert len(read_video(tmp_path / name)[0]) == 12


@pytest.mark.parametrize("name", ALL)
def test_what_goes_wrong_with_chunks_leaves_nothing(tmp_path: Path, name: str) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield noise(2, 8, 8)
        raise ZeroDivisionError("no more frames")

    with pytest.raises(ZeroDivisionError, match="no more frames"):
        write_chunks(tmp_path / name, failing(), 4)
    for chunks, message in (
        ([noise(2, 8, 8)], "is to hold 4 frames, and 2 were given"),
        ([noise(3, 8, 8)] * 2, "is to hold 4 frames, and 6 were given"),
        ([noise(2, 8, 8), noise(2, 4, 8)], "can't hold frames of different sizes, such as 8x4"),
        ([noise(4, 8, 8) / 2], "is written from uint8 frames"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            write_chunks(tmp_path / name, chunks, 4)
    assert not list(tmp_path.iterdir())


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    write_video(tmp_path / "a.PNG", noise(1), fps=12)
    frames, fps = read_video(tmp_path / "a.PNG")
    np.testing.assert_array_equal(frames, noise(1))
    assert fps == 12


@pytest.mark.parametrize(("fps", "num_frames"), [(8, 16), (7.5, 5), (30000 / 1001, 3), (8, 1)])
def test_mp4_keeps_frames_rate_and_looks(tmp_path: Path, fps: float, num_frames: int) -> None:
    clip = blob(num_frames)
    write_video(tmp_path / "a.mp4", clip, fps=fps)
    frames, read_fps = read_video(tmp_path / "a.mp4")
    assert frames.shape == clip.shape
    assert read_fps == fps
    assert psnr(frames, clip) >= 40


def test_mp4_keeps_flat_colours(tmp_path: Path) -> None:
    """A wrong or unsaid colour matrix would shift them by ten levels and more."""
    for colour in ((230, 40, 40), (40, 190, 70), (50, 90, 240), (255, 255, 255), (0, 0, 0)):
        clip = np.full((3, 32, 32, 3), colour, np.uint8)
        write_video(tmp_path / "a.mp4", clip)
        assert np.abs(read_video(tmp_path / "a.mp4")[0].astype(int) - clip).max() <= 2


def test_mp4_plays_in_browsers(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, blob(16, 256))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 8
        frames = list(container.decode(stream))
        assert [float(frame.time) for frame in frames] == [index / 8 for index in range(16)]
        assert (frames[0].colorspace, frames[0].color_range) == (1, 1)  # BT.709, limited
        assert container.duration == 2 * av.time_base
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "plays only once all of it is there"
    assert b" threads=1 " in data
    assert b"bframes=0 " in data


@pytest.mark.parametrize(("angle", "matrix"), [(-1, (0, 1, -1, 0)), (1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1))])
def test_phone_videos_come_upright(tmp_path: Path, angle: int, matrix: tuple[int, int, int, int]) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, blob(2))
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # the display matrix, row by row: a b u, c d v, x y w
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[start + offset : start + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    plain = read_video(path)[0]
    path.write_bytes(data)
    np.testing.assert_array_equal(read_video(path)[0], np.rot90(plain, angle, axes=(1, 2)))


def test_gif_is_close_to_its_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "a.gif", blob())
    frames, fps = read_video(tmp_path / "a.gif")
    assert fps == 8
    assert frames.shape == blob().shape
    assert psnr(frames, blob()) >= 38


def test_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    colours = noise(1, 4, 64)[0].reshape(-1, 3)
    for clip in (colours[np.random.default_rng(1).integers(0, 256, (6, 20, 30))], np.zeros((3, 4, 6, 3), np.uint8)):
        write_video(tmp_path / "a.gif", clip, fps=30)
        np.testing.assert_array_equal(read_video(tmp_path / "a.gif")[0], clip)


def test_gif_of_many_colours_is_close_too(tmp_path: Path) -> None:
    """Nearly every pixel its own colour: the palette is found from coarser ones, and it is a good one."""
    y, x = np.mgrid[:256, :256]
    clip = np.stack([np.stack([x, y, (x + y + shift) // 2], axis=-1) for shift in (0, 1)]).astype(np.uint8)
    clip ^= np.random.default_rng(0).integers(0, 4, clip.shape, np.uint8)
    write_video(tmp_path / "a.gif", clip)
    assert psnr(read_video(tmp_path / "a.gif")[0], clip) >= 34


def test_gif_does_not_flicker(tmp_path: Path) -> None:
    """What stands still keeps its colour through all frames, and there is a single palette."""
    write_video(tmp_path / "a.gif", blob())
    frames = read_video(tmp_path / "a.gif")[0]
    still = (blob() == blob()[:1]).all(axis=(0, -1))
    assert still.sum() > 500
    assert (frames[:, still] == frames[:1, still]).all()
    assert local_palettes((tmp_path / "a.gif").read_bytes()) == [False] * 16


@pytest.mark.parametrize("name", ["clip.gif", "clip.webp"])
def test_frames_that_stand_still_are_not_lost(tmp_path: Path, name: str) -> None:
    """Both formats merge equal neighbours into one longer frame."""
    moving = blob(6, 32)
    for index, order in enumerate(([0, 0, 0, 1, 2, 2, 3, 3], [0, 1, 1, 1], [4] * 16)):
        path = tmp_path / str(index) / name
        write_video(path, moving[order], fps=12)
        frames, fps = read_video(path)
        assert fps == 12
        assert len(frames) == len(order)
        assert psnr(frames, moving[order] + 1e-3) >= 38


def test_images_play_at_the_right_speed(tmp_path: Path) -> None:
    """Whole hundredths of a second must not add up to another frame rate; and who loops, loops."""
    for name, loop, expected in (("a.gif", False, 0), ("a.gif", True, 0), ("a.webp", False, 1), ("a.webp", True, 0)):
        write_video(tmp_path / name, blob(), fps=8, loop=loop)
        with Image.open(tmp_path / name) as image:
            durations = []
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                durations.append(image.info["duration"])
            assert sum(durations) == 2000
            assert max(durations) - min(durations) <= 10
            assert image.info["loop"] == expected


def test_files_of_others_are_read_at_their_own_speed(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in noise(3)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=50, lossless=True)
    pictures[0].save(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    pictures[1].save(tmp_path / "folder" / "x.png")
    assert read_video(tmp_path / "a.webp")[1] == 20
    for name, picture in (("a.png", 0), ("folder", 1)):
        frames, fps = read_video(tmp_path / name)
        np.testing.assert_array_equal(frames[0], noise(3)[picture])
        assert fps == 8
    assert (
        read_metadata(tmp_path / "a.webp")
        == read_metadata(tmp_path / "a.png")
        == read_metadata(tmp_path / "folder")
        == {}
    )


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, frame in enumerate(noise(11)):
        Image.fromarray(frame).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "._frame_0.png").write_bytes(b"")  # as macOS adds it
    assert np.array_equal(read_video(tmp_path)[0], noise(11))


def test_a_record_of_another_clip_is_not_believed(tmp_path: Path) -> None:
    """Somebody took frames out of our file and kept its comment."""
    comment = json.dumps({"_video": {"fps": 8.0, "frames": 16}})
    pictures = [Image.fromarray(frame) for frame in noise(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=250, comment=comment)
    frames, fps = read_video(tmp_path / "a.gif")
    assert (len(frames), fps) == (3, 4)
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=50, comment=comment)
    frames, fps = read_video(tmp_path / "a.gif")
    assert (len(frames), fps) == (3, 20)


# --- metadata and bytes


@pytest.mark.parametrize("name", [*ALL, "clip.png"])
def test_metadata_survives(tmp_path: Path, name: str) -> None:
    clip = noise(1 if name.endswith("png") else 4, 8, 8)
    write_video(tmp_path / name, clip, metadata=METADATA)
    assert read_metadata(tmp_path / name) == METADATA
    write_video(tmp_path / f"bare-{name}", clip)
    assert read_metadata(tmp_path / f"bare-{name}") == {}


@pytest.mark.parametrize("name", [*ALL, "clip.png"])
def test_same_frames_and_metadata_same_bytes(tmp_path: Path, name: str) -> None:
    clip = blob(1 if name.endswith("png") else 6)
    write_video(tmp_path / "a" / name, clip, fps=8, metadata={"prompt": "é", "seed": 1})
    write_video(
        tmp_path / "b" / name,
        clip.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3),
        fps=8.0,
        metadata={"seed": 1, "prompt": "é"},
    )
    assert digest(tmp_path / "a" / name) == digest(tmp_path / "b" / name)


def test_a_folder_is_plain_to_see(tmp_path: Path) -> None:
    write_video(tmp_path / "clip", noise(3), fps=6, metadata={"seed": 1})
    assert sorted(os.listdir(tmp_path / "clip")) == ["00000.png", "00001.png", "00002.png", "metadata.json"]
    assert json.loads((tmp_path / "clip" / "metadata.json").read_text()) == {
        "_video": {"fps": 6.0, "frames": 3},
        "seed": 1,
    }


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": float("nan")}, {"_video": 1}])
def test_metadata_that_json_cannot_say_is_refused(tmp_path: Path, metadata: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a\.webp can't hold"):
        write_video(tmp_path / "new" / "a.webp", noise(), metadata=metadata)
    assert not list(tmp_path.iterdir())


# --- whole or not at all


@pytest.mark.parametrize("name", ALL)
def test_a_failure_leaves_what_was_there(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    if path.suffix:
        write_video(path, blob(4))
    before = digest(path) if path.suffix else {}
    writer = write._WRITERS[path.suffix]

    def dying(*arguments: Any) -> None:
        writer(*arguments)
        assert len(os.listdir(tmp_path)) == bool(path.suffix) + 1, "written beside the target, not over it"
        raise RuntimeError("the disk is full")

    monkeypatch.setitem(write._WRITERS, path.suffix, dying)
    with pytest.raises(OSError, match=rf"{name} could not be written: the disk is full"):
        write_video(path, blob(8))
    assert os.listdir(tmp_path) == ([name] if path.suffix else [])
    assert not path.suffix or digest(path) == before


@pytest.mark.parametrize(("name", "width"), [("a.mp4", 40_000), ("a.gif", 70_000), ("a.webp", 17_000)])
def test_frames_too_large_for_the_encoder_leave_nothing(tmp_path: Path, name: str, width: int) -> None:
    with pytest.raises(OSError, match=rf"{name} could not be written: ."):
        write_video(tmp_path / name, np.zeros((2, 2, width, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    for name in ALL:
        with pytest.raises(KeyboardInterrupt):
            write_video(tmp_path / name, blob(2))
    assert not list(tmp_path.iterdir())


def test_files_are_replaced_and_parents_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "a.webp"
    for clip in (noise(2), noise(3)):
        write_video(path, clip)
        assert len(read_video(path)[0]) == len(clip)
    assert os.listdir(path.parent) == ["a.webp"]
    empty = tmp_path / "empty"
    empty.mkdir()
    write_video(empty, noise(2))
    assert len(read_video(empty)[0]) == 2


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, latentshift.video, latentshift.contact_sheet\n"
    code += "assert not {'torch', 'av', 'PIL', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
