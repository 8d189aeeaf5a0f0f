"""One clip, looked at closely: what it is, whether the window holds a cut, whether anything in it moves.

Runs inside the pool, in a process of its own. Legend of shapes: F frames, H × W pixels.
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

STILL_LEVELS = 1.0  # mean change from the first frame, of 255 levels: below this nothing moves that one would see
_BLOCK, _BLOCKS = 2**20, 64
_WHOLE = _BLOCK * _BLOCKS  # bytes: files up to here are compared whole
_LAST = 1e-3  # seconds: the window's last frame is looked at too


@dataclass(frozen=True)
class Question:
    """A clip and how it is to be looked at.

    Attributes:
        index: of the row in its manifest.
        row: the clip.
        window: which moments; of an image its only one.
        framing: their shape.
        picture: whether the frames themselves are wanted, for a contact sheet.
    """

    index: int
    row: Row
    window: Window
    framing: Framing
    picture: bool = False


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes:
        seconds: how long the row is; 0 for an image.
        fps: frames a second; 0 for an image.
        height: in pixels, as seen.
        width: likewise.
        codec: e.g. ``"h264"``.
        digest: of the file's, or the member's, bytes, and of where the row begins and ends; of files above 64 MiB
            only 64 blocks are looked at.
        cut: seconds from the window's first frame to the frame that begins another scene; None without one.
        still: whether nothing moves in the window.
        short: whether the video is shorter than the window.
        frames: (F, H, W, 3) uint8 where a picture was wanted.
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


def examine(question: Question) -> Facts:
    """Look at one clip.

    Raises:
        Rejected: for a clip that can't be used.
    """
    row = question.row
    found = probe(row)
    window = replace(question.window, frames=1) if row.is_image else question.window
    clip = read_clip(row, window, question.framing, rng_for(0, 0, question.index))
    moved = np.abs(clip.frames.astype(np.int16) - clip.frames[0]).mean(axis=(1, 2, 3))
    return Facts(
        seconds=min(found.seconds, math.inf if row.end is None else row.end) - (row.start or 0.0),
        fps=found.fps,
        height=found.height,
        width=found.width,
        codec=found.codec,
        digest=_digest(row),
        cut=_first_cut(row, clip.times),
        short=clip.short,
        still=len(clip.frames) > 1 and float(moved.max()) < STILL_LEVELS,
        frames=clip.frames if question.picture else None,
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
        found = os.stat(row.file)
        digest.update(_content(row.file, row.offset or 0, row.size or found.st_size, found.st_mtime_ns))
    return int.from_bytes(digest.digest()[:8], "little")


@lru_cache(maxsize=64)
def _content(file: str, offset: int, size: int, changed: int) -> bytes:
    """SHA-256 of the bytes; of large files of their size and of blocks spread over them."""
    del changed  # it is here so that a file that has changed is read again
    digest = hashlib.sha256(str(size).encode())
    starts = range(0, size, _BLOCK) if size <= _WHOLE else np.linspace(0, size - _BLOCK, _BLOCKS).astype(int).tolist()
    with open(file, "rb") as content:
        for start in starts:
            content.seek(offset + start)
            digest.update(content.read(min(_BLOCK, size - start)))
    return digest.digest()
