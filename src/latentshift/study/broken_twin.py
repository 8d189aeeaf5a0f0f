"""A broken twin of a clip: worse than it in every way that raters are asked about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from latentshift.data.footage.spread import ReadStrip
from latentshift.video import write_video
from latentshift.video.write import BROWSER_MAX_FPS, MAX_FPS, MIN_FPS

_GRID = 8
_KINDS = (".mp4", ".gif", ".webp", ".png")


def twin_suffix(suffix: str) -> str:
    """The suffix of the twin of a file: its own, where this package writes such files."""
    return suffix.lower() if suffix.lower() in _KINDS else ".mp4"


def break_clip(frames: np.ndarray, seed: int) -> np.ndarray:
    """Change the places of 8 × 8 blocks of each frame, alike in all frames, so that nothing flickers.

    Args:
        frames: uint8 (F, H, W, 3), H and W 2 or more.
        seed: of the places; no block keeps its own.

    Returns:
        (F, H', W', 3), where H' and W' are the largest numbers not above H and W that blocks of whole and even size
        fill.

    Raises:
        ValueError: for a clip that looks the same then, such as one of a single colour.
    """
    height, width = frames.shape[1:3]
    rows, columns = (min(_GRID, max(1, size // 2)) for size in (height, width))
    tall, wide = (size // number // 2 * 2 or size // number for size, number in ((height, rows), (width, columns)))
    cut = frames[:, : rows * tall, : columns * wide]
    blocks = cut.reshape(len(frames), rows, tall, columns, wide, 3).transpose(1, 3, 0, 2, 4, 5)
    blocks = blocks.reshape(rows * columns, len(frames), tall, wide, 3)
    # Along one cycle through all blocks, so that none stays.
    cycle = np.random.default_rng(seed).permutation(len(blocks))
    moved = np.empty_like(blocks)
    moved[cycle] = blocks[np.roll(cycle, 1)]
    moved = moved.reshape(rows, columns, len(frames), tall, wide, 3).transpose(2, 0, 3, 1, 4, 5)
    broken = np.ascontiguousarray(moved.reshape(cut.shape))
    if np.abs(broken.astype(np.int16) - cut).mean() < 1:
        raise ValueError("its blocks look all the same")
    return broken


def write_broken_twin(source: Path, strip: ReadStrip, target: Path, seed: int) -> None:
    """Write the broken twin of a clip.

    Args:
        source: its file, for messages.
        strip: all of its frames.
        target: of the twin.
        seed: see :func:`break_clip`.

    Raises:
        ValueError: if the clip has no twin that looks different.
        OSError: if it can't be written.
    """
    try:
        broken = break_clip(strip.frames, seed)
    except ValueError as error:
        raise ValueError(
            f"{source} can't be broken for an attention check, since {error}: take another seed, or fewer of them"
        ) from None
    write_strip(target, replace(strip, frames=broken))


def write_strip(target: Path, strip: ReadStrip) -> None:
    """Write all frames of a clip at its rate, or the nearest at which browsers play the target."""
    highest = BROWSER_MAX_FPS.get(target.suffix, MAX_FPS)
    write_video(target, strip.frames, fps=min(max(len(strip.frames) / strip.seconds, MIN_FPS), highest), loop=True)
