"""Examine one clip: its format, and whether its window has a scene cut or no motion.

Runs in worker processes. Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from latentshift.data.footage.decode import probe, read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.scenes import THRESHOLD, find_scenes
from latentshift.data.footage.sprite_clip import is_drawn
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.sample_order import rng_for

STILL_LEVELS = 1.0  # mean change from the first frame, of 255 levels: below it no motion is visible
_BLOCK, _BLOCKS = 2**20, 64
_MAX_FULL_HASH = _BLOCK * _BLOCKS  # bytes: files up to this size are hashed completely
_LAST = 1e-3  # seconds: so that the last frame of the window is included


@dataclass(frozen=True)
class ExamineTask:
    """A clip to examine.

    Attributes:
        index: of the row in its manifest.
        row: the clip.
        window: of frames to decode; one frame for images.
        framing: size and crop of the frames.
        picture: whether to return the frames, for a contact sheet.
    """

    index: int
    row: Row
    window: Window
    framing: Framing
    picture: bool = False


@dataclass(frozen=True)
class ClipInfo:
    """What an examination measured.

    Attributes:
        seconds: duration of the row; 0 for an image.
        fps: frames a second; 0 for an image.
        height: displayed height in pixels.
        width: displayed width in pixels.
        codec: e.g. ``"h264"``.
        digest: hash of the bytes and of the row's start and end; of files above 64 MiB only 64 blocks are hashed.
        cut: seconds from the window's first frame to the first scene cut; None if there is none.
        still: whether nothing moves within the window.
        short: whether the video is shorter than the window.
        frames: (F, H, W, 3) uint8 if requested.
    """

    seconds: float
    fps: float
    height: int
    width: int
    codec: str
    digest: int
    cut: float | None
    still: bool
    short: bool
    frames: np.ndarray | None


def examine(task: ExamineTask) -> ClipInfo:
    """Decode and measure one clip.

    Raises:
        Rejected: for a clip that can't be used.
    """
    row = task.row
    media = probe(row)
    window = replace(task.window, frames=1) if row.is_image else task.window
    clip = read_clip(row, window, task.framing, rng_for(0, 0, task.index))
    motion = np.abs(clip.frames.astype(np.int16) - clip.frames[0]).mean(axis=(1, 2, 3))
    return ClipInfo(
        seconds=min(media.seconds, math.inf if row.end is None else row.end) - (row.start or 0.0),
        fps=media.fps,
        height=media.height,
        width=media.width,
        codec=media.codec,
        digest=_digest(row),
        cut=_first_cut(row, clip.times),
        short=clip.short,
        still=len(clip.frames) > 1 and float(motion.max()) < STILL_LEVELS,
        frames=clip.frames if task.picture else None,
    )


def _first_cut(row: Row, times: np.ndarray) -> float | None:
    if len(times) < 2 or is_drawn(row) or row.is_image:
        return None
    first, last = float(times[0]), float(times[-1])
    scenes = find_scenes(replace(row, start=first, end=last + _LAST), THRESHOLD)
    return scenes[1][0] - first if len(scenes) > 1 else None


def _digest(row: Row) -> int:
    digest = hashlib.sha256(f"{row.start} {row.end} ".encode())
    if is_drawn(row):
        digest.update(row.file.encode())
    else:
        stat = os.stat(row.file)
        digest.update(_file_hash(row.file, row.offset or 0, row.size or stat.st_size, stat.st_mtime_ns))
    return int.from_bytes(digest.digest()[:8], "little")


@lru_cache(maxsize=64)
def _file_hash(file: str, offset: int, size: int, changed: int) -> bytes:
    """SHA-256 of the bytes; for large files of the size and of evenly spread blocks."""
    del changed  # part of the cache key: a changed file is hashed again
    digest = hashlib.sha256(str(size).encode())
    if size <= _MAX_FULL_HASH:
        starts = list(range(0, size, _BLOCK))
    else:
        starts = np.linspace(0, size - _BLOCK, _BLOCKS).astype(int).tolist()
    with open(file, "rb") as content:
        for start in starts:
            content.seek(offset + start)
            digest.update(content.read(min(_BLOCK, size - start)))
    return digest.digest()
