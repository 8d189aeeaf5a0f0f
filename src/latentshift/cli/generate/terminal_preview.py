"""A few frames of a video, drawn in the terminal with coloured half blocks.

Each character cell shows two pixels: the upper half block in the upper pixel's colour, on the lower one's. Any terminal
with 24-bit colours can; none of the protocols for pictures is needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import numpy as np

NUM_FRAMES = 4
_MAX_WIDTH = 32  # of a frame, in cells
_GAP = 1


def can_preview(stream: TextIO) -> bool:
    """Whether a stream is a terminal in UTF-8 that has 24-bit colours by ``COLORTERM``, and ``NO_COLOR`` is not set."""
    colours = os.environ.get("COLORTERM") in ("truecolor", "24bit") and not os.environ.get("NO_COLOR")
    return colours and stream.isatty() and (stream.encoding or "").lower() in ("utf-8", "utf8")


class PreviewFrames:
    """Keeps the frames that a preview shows, while the chunks of a video pass by.

    Args:
        num_frames: of the video, at least 1.

    Attributes:
        frames: up to four, evenly spaced from the first to the last: uint8 RGB (H, W, 3) each.
    """

    def __init__(self, num_frames: int) -> None:
        count = min(NUM_FRAMES, num_frames)
        self._wanted = {round(k * (num_frames - 1) / max(count - 1, 1)) for k in range(count)}
        self.frames: list[np.ndarray] = []

    def watch(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same chunks, uint8 (f, H, W, 3) each, one after the other."""
        start = 0
        for chunk in chunks:
            self.frames += [chunk[k].copy() for k in range(len(chunk)) if start + k in self._wanted]
            start += len(chunk)
            yield chunk


def draw_frames(frames: list[np.ndarray], columns: int | None = None) -> str:
    """Frames side by side, as lines of coloured half blocks.

    Args:
        frames: uint8 RGB (H, W, 3), all of one size.
        columns: cells of a line. None: the terminal's.
    """
    import numpy as np
    from PIL import Image

    columns = columns or shutil.get_terminal_size().columns
    width = max(2, min(_MAX_WIDTH, (columns - 1) // len(frames) - _GAP))
    height = 2 * max(1, round(width * frames[0].shape[0] / frames[0].shape[1] / 2))
    small = [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX)) for frame in frames]
    lines = []
    for row in range(0, height, 2):
        parts = ["".join(_cell(frame[row, x], frame[row + 1, x]) for x in range(width)) + "\x1b[0m" for frame in small]
        lines.append((" " * _GAP).join(parts))
    return "\n".join(lines)


def _cell(upper: np.ndarray, lower: np.ndarray) -> str:
    (r, g, b), (s, h, c) = upper, lower
    return f"\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m▀"
