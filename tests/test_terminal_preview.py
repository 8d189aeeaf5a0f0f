"""Frames drawn in the terminal: their colours can be read back from it."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from latentshift.cli.generate.terminal_preview import PreviewFrames, can_preview, draw_frames


@pytest.mark.parametrize(("num_frames", "shown"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (16, [0, 5, 10, 15])])
@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_the_frames_shown_are_spread_from_the_first_to_the_last(num_frames: int, shown: list[int], chunk: int) -> None:
    video = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    kept = PreviewFrames(num_frames)
    passed = list(kept.watch(video[start : start + chunk] for start in range(0, num_frames, chunk)))
    np.testing.assert_array_equal(np.concatenate(passed), video)
    assert [int(frame[0, 0, 0]) for frame in kept.frames] == shown


def test_what_is_drawn_has_the_frames_colours() -> None:
    frames = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    lines = draw_frames(list(frames), columns=19).splitlines()  # 8 cells for each frame, a gap, and one left free
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines] == ["▀" * 8 + " " + "▀" * 8] * 4
    cells = [re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m", line) for line in lines]
    pixels = np.array(cells, dtype=np.uint8).reshape(4, 2, 8, 2, 3)  # line, frame, column, half, channel
    np.testing.assert_array_equal(pixels.transpose(1, 0, 3, 2, 4).reshape(2, 8, 8, 3), frames)
    assert all(line.endswith("\x1b[0m") for line in lines)  # the colours end where the frames do


def test_a_wide_frame_keeps_its_shape_and_a_narrow_terminal_its_width() -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    lines = draw_frames([wide] * 4, columns=84).splitlines()
    assert len(lines) == 5 and lines[0].count("▀") == 4 * 19  # 19 × 10 pixels, of 2 : 1
    assert draw_frames([wide] * 4, columns=10).splitlines()[0].count("▀") == 4 * 2


def test_only_a_terminal_with_colours_gets_a_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert can_preview(Terminal()) and not can_preview(io.StringIO())
    plain = Terminal()
    plain.encoding = "ascii"
    assert not can_preview(plain)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not can_preview(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("COLORTERM", "")
    assert not can_preview(Terminal())
