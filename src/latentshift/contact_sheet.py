"""Contact sheets: rows of frames under captions, or all clips side by side in one video.

Knows nothing of files or models: :func:`latentshift.video.write_video` writes the result.
Imports nothing else of the package, and Pillow only where it is used. Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

GAP = 2  # pixels between frames, four times that between rows
MIN_CAPTION_WIDTH = 320  # pixels a caption gets even above a single small frame
PAPER, INK = (255, 255, 255), (20, 20, 20)


def contact_sheet(
    rows: Sequence[np.ndarray], captions: Sequence[str] | None = None, columns: int = 8, scale: int = 1
) -> np.ndarray:
    """Lay out clips in rows for comparison.

    Args:
        rows: clips, uint8 RGB (F, H, W, 3), each of any length and size. Clips with fewer frames than columns show all.
        captions: one for each clip, wrapped if too long; an empty one takes no space.
        columns: number of frames to show of each clip, first and last included.
        scale: integer magnification (nearest neighbour).

    Returns:
        uint8 RGB (H', W', 3).

    Raises:
        ValueError: for clips of another shape or type, no clips, columns or a scale below 1, or another number of
            captions than clips.
    """
    if not rows or columns < 1 or scale < 1:
        raise ValueError(f"a sheet has 1 clip, column and scale or more, not {len(rows)}, {columns} and {scale}")
    for index, clip in enumerate(rows):
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or clip.size == 0:
            raise ValueError(f"clip {index} of a sheet must be uint8 (F, H, W, 3), not {clip.dtype} {clip.shape}")
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"a sheet of {len(rows)} clips takes as many captions, not {len(captions)}")

    from PIL import Image, ImageDraw, ImageFont

    strips = [_strip(clip[chosen_frames(len(clip), columns)], scale) for clip in rows]
    width = max(strip.shape[1] for strip in strips)
    if captions is not None:
        width = max(width, MIN_CAPTION_WIDTH)
    font_size = min(max(width // 50, 14), 40)  # readable even if a wide sheet is shown smaller
    font = ImageFont.load_default(size=font_size)
    line_height = round(1.3 * font_size)
    lines = [wrap_text(caption, font, width) for caption in captions or [""] * len(rows)]
    heights = [len(text) * line_height + strip.shape[0] for text, strip in zip(lines, strips, strict=True)]

    sheet = Image.new("RGB", (width + 2 * GAP, sum(heights) + 4 * GAP * (len(rows) - 1) + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for text, strip, height in zip(lines, strips, heights, strict=True):
        for number, line in enumerate(text):
            draw.text((GAP, top + number * line_height), line, fill=INK, font=font)
        sheet.paste(Image.fromarray(strip), (GAP, top + height - strip.shape[0]))
        top += height + 4 * GAP
    return np.array(sheet)


def side_by_side(clips: Sequence[np.ndarray], columns: int = 4, scale: int = 1) -> np.ndarray:
    """One clip with all clips side by side, in rows of ``columns``.

    Args:
        clips: uint8 RGB (F, H, W, 3), all of one shape.
        columns: clips in a row.
        scale: integer magnification (nearest neighbour).

    Returns:
        uint8 RGB (F, H', W', 3), both sides even, as mp4 requires.

    Raises:
        ValueError: for clips of different shapes, or none.
    """
    if len({clip.shape for clip in clips}) != 1:
        raise ValueError("clips that play side by side must be one or more, and of one shape")
    pad = [(0, 0), (GAP, GAP), (GAP, GAP), (0, 0)]
    framed = [np.pad(clip.repeat(scale, axis=1).repeat(scale, axis=2), pad, constant_values=PAPER[0]) for clip in clips]
    framed += [np.full_like(framed[0], PAPER[0])] * (-len(clips) % columns)
    rows = [np.concatenate(framed[first : first + columns], axis=2) for first in range(0, len(framed), columns)]
    grid = np.concatenate(rows, axis=1)
    odd = [(0, 0), (0, grid.shape[1] % 2), (0, grid.shape[2] % 2), (0, 0)]
    return np.pad(grid, odd, constant_values=PAPER[0])


def chosen_frames(count: int, columns: int) -> np.ndarray:
    """Indices of the frames that a sheet shows of ``count``: evenly spaced, the first and the last included."""
    return np.rint(np.linspace(0, count - 1, min(columns, count))).astype(int)


def _strip(frames: np.ndarray, scale: int) -> np.ndarray:
    """Frames side by side, uint8 (H, W', 3)."""
    shown = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    spaced = np.pad(shown, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=PAPER[0])
    return np.ascontiguousarray(np.concatenate(list(spaced), axis=1)[:, :-GAP])


def missing_letters(text: str) -> str:
    """Those letters of a text, each once, that the font of sheets lacks and draws as empty boxes."""
    from PIL import ImageFont

    font = ImageFont.load_default(size=14)
    box = bytes(font.getmask("\uffff"))  # no font has this one
    return "".join(
        letter for letter in dict.fromkeys(text) if not letter.isspace() and bytes(font.getmask(letter)) == box
    )


def wrap_text(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The lines of a caption, none wider than ``width`` pixels."""
    lines: list[str] = []
    for word in caption.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        while len(word) > 1 and font.getlength(word) > width:  # a word wider than the sheet breaks anywhere
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    return lines
