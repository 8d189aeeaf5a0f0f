"""What footage can be besides plain: right, or refused by name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from latentshift.data.footage.clip import Clip
from latentshift.data.footage.decode import probe, read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video import read_video

FRAMES = 30
INTERLACED = ("-c:v", "mpeg2video", "-r", "25", "-flags", "+ilme+ildct", "-vf", "setfield=tff")


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    """Red at the top left, green at the top right, blue below."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2, 0] = 200
    pixels[: height // 2, width // 2 :, 1] = 200
    pixels[height // 2 :, :, 2] = 200
    return pixels


def ffmpeg(path: Path, *words: str, frame: np.ndarray | None = None, before: tuple[str, ...] = ()) -> Path:
    """A video of one picture, as the ffmpeg program writes it with these options."""
    frame = picture() if frame is None else frame
    kind = "rgba" if frame.shape[2] == 4 else "rgb24"
    size = f"{frame.shape[1]}x{frame.shape[0]}"
    source = ["-f", "rawvideo", "-pix_fmt", kind, "-s", size, "-r", "15", "-i", "-"]
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *before, *source, *words, str(path)],
        input=np.stack([frame] * FRAMES).tobytes(),
        check=True,
    )
    return path


def read(path: Path, height: int = 48, width: int = 64) -> Clip:
    row = Row(str(path), ("a clip",), "test")
    assert (probe(row).height, probe(row).width) == (height, width)
    return read_clip(row, Window(4, 1.0), Framing(height, width), np.random.default_rng(0))


def close(frames: np.ndarray, expected: np.ndarray) -> bool:
    """Within a few levels but for the edges, which the colours' coarser grid blurs."""
    return bool((np.abs(frames.astype(int) - expected).max(axis=-1) < 12).mean() > 0.85)


@pytest.mark.parametrize(
    "words",
    [
        ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
        ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
        ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le"),
        ("-c:v", "ffv1", "-pix_fmt", "yuv422p12le"),
        ("-c:v", "ffv1", "-pix_fmt", "gbrp16le"),
        ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p"),
        ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),  # full range
        ("-c:v", "mpeg4", "-q:v", "2"),
    ],
    ids=lambda words: "-".join(words[1::2]),
)
def test_every_kind_of_pixels_comes_out_the_same(words: tuple[str, ...], tmp_path: Path) -> None:
    clip = read(ffmpeg(tmp_path / "v.mkv", *words))
    assert all(close(frame, picture()) for frame in clip.frames)


def test_odd_sizes(tmp_path: Path) -> None:
    odd = picture(45, 61)
    assert close(
        read(ffmpeg(tmp_path / "v.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p", frame=odd), 45, 61).frames[0], odd
    )


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_comes_out_upright(degrees: int, tmp_path: Path) -> None:
    flat = ffmpeg(tmp_path / "flat.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    turned = tmp_path / "turned.mp4"
    words = ["-y", "-v", "error", "-display_rotation:v:0", str(degrees), "-i", str(flat), "-c", "copy", str(turned)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], check=True)
    expected = np.rot90(picture(), degrees // 90)
    assert close(read(turned, *expected.shape[:2]).frames[0], expected)


@pytest.mark.parametrize("flip", ["hflip", "vflip"])
def test_a_video_that_is_to_be_mirrored_is_refused(flip: str, tmp_path: Path) -> None:
    flat = ffmpeg(tmp_path / "flat.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    words = ["-y", "-v", "error", f"-display_{flip}:v:0", "-i", str(flat), "-c", "copy", str(tmp_path / "m.mp4")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], check=True)
    with pytest.raises(Rejected, match="it is to be shown mirrored"):
        read(tmp_path / "m.mp4")


def test_the_frame_on_screen_whatever_the_clock(tmp_path: Path) -> None:
    """An AVI counts in frames: half a tick of its clock is half a frame."""
    level = np.arange(0, 240, 8, dtype=np.uint8)[:, None, None, None]
    path = tmp_path / "v.avi"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "10", "-i", "-"]
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, "-c:v", "ffv1", str(path)],
        input=np.broadcast_to(level, (30, 48, 64, 3)).tobytes(),
        check=True,
    )
    row = Row(str(path), ("a clip",), "test", start=0.06)
    clip = read_clip(row, Window(8, 2.0, "first"), Framing(48, 64), np.random.default_rng(0))
    moments = 0.06 + np.arange(8) / 4
    assert np.allclose(clip.times, np.floor(moments * 10 + 1e-6) / 10)
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - 8 * np.floor(moments * 10 + 1e-6)).max() < 2


def test_what_an_edit_list_cuts_away_is_not_there(tmp_path: Path) -> None:
    long = ffmpeg(tmp_path / "long.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "60")
    content = bytearray(long.read_bytes())
    place = content.find(b"elst") + 12
    scale = content.find(b"mvhd") + 16
    ticks = int.from_bytes(content[scale : scale + 4], "big")
    content[place : place + 4] = (ticks * 11 // 10).to_bytes(4, "big")  # 1.1 of its 2 seconds
    (tmp_path / "cut.mp4").write_bytes(content)
    row = Row(str(tmp_path / "cut.mp4"), ("a clip",), "test")
    assert probe(row).seconds == pytest.approx(1.1, abs=0.15)
    for seed in range(5):
        clip = read_clip(row, Window(4, 1.0), Framing(48, 64), np.random.default_rng(seed))
        assert clip.times[-1] < 1.2
    with pytest.raises(Rejected, match=r"and a clip takes 1\.6 s"):
        read_clip(row, Window(4, 1.6), Framing(48, 64), np.random.default_rng(0))


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "v.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-aspect", "8:3")
    assert close(read(path, 48, 128).frames[0], picture(48, 128))


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        (
            "interlaced",
            "it is interlaced",
            ("-c:v", "mpeg2video", "-r", "25", "-flags", "+ilme+ildct", "-vf", "setfield=tff"),
        ),
        ("hdr", r"it is HDR \(PQ\)", ("-c:v", "libx264", "-vf", "format=yuv420p,setparams=color_trc=smpte2084")),
        ("hdr", r"it is HDR \(HLG\)", ("-c:v", "libx264", "-vf", "format=yuv420p,setparams=color_trc=arib-std-b67")),
    ],
)
def test_what_would_come_out_wrong_is_refused(kind: str, reason: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=reason) as refused:
        read(ffmpeg(tmp_path / "v.mkv", *words))
    assert refused.value.kind == kind


def test_transparency_is_refused_and_an_opaque_fourth_channel_is_not(tmp_path: Path) -> None:
    opaque = np.dstack([picture(), np.full((48, 64), 255, dtype=np.uint8)])
    words = ("-c:v", "ffv1", "-pix_fmt", "bgra")
    assert close(read(ffmpeg(tmp_path / "o.mkv", *words, frame=opaque)).frames[0], picture())
    clear = opaque.copy()
    clear[:10, :, 3] = 0
    with pytest.raises(Rejected, match="parts of it are transparent"):
        read(ffmpeg(tmp_path / "c.mkv", *words, frame=clear))


@pytest.mark.parametrize(("default", "shown"), [("0", 0), ("1", 1), ("none", 0)])
def test_of_several_video_streams_the_default_one_is_read(default: str, shown: int, tmp_path: Path) -> None:
    pictures = [picture(), picture()[::-1]]
    files = [
        ffmpeg(tmp_path / f"{number}.mkv", "-c:v", "ffv1", frame=frame)
        for number, frame in enumerate(np.ascontiguousarray(each) for each in pictures)
    ]
    marks = [word for n in (0, 1) for word in (f"-disposition:v:{n}", "default" if default == str(n) else "0")]
    inputs = [word for file in files for word in ("-i", str(file))]
    path = tmp_path / "both.mkv"
    words = ["-map", "0", "-map", "1", "-c", "copy", *marks, "-default_mode", "passthrough", str(path)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, *words], check=True)
    assert close(read(path).frames, pictures[shown])
    assert close(read_video(path)[0], pictures[shown])
