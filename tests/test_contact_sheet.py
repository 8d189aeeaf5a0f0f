"""Contact sheets: evenly spaced frames, readable captions, and clips side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latentshift.contact_sheet import GAP, contact_sheet, side_by_side
from latentshift.video import (
    read_video,
    write_video,
)


def test_contact_sheet_shows_evenly_spaced_frames() -> None:
    clip = np.zeros((16, 8, 10, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None, None, None]
    sheet = contact_sheet([clip, clip[:2]], columns=4, scale=3)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 24 + 6 * GAP, 4 * 30 + 5 * GAP, 3)
    assert sheet[GAP + 5, GAP + 5 :: 30 + GAP, 0].tolist() == [0, 5, 10, 15]
    assert sheet[-GAP - 5, GAP + 5 :: 30 + GAP, 0].tolist() == [0, 1, 255, 255]


def test_contact_sheet_draws_readable_captions(tmp_path: Path) -> None:
    captions = ["a red circle moving left over a navy ground " * 4, ""]
    clips = [np.full((16, 32, 32, 3), 128, np.uint8)] * 2
    sheet = contact_sheet(clips, captions)
    ink = sheet.max(axis=-1) < 100
    lines = ink.any(axis=1)
    assert ink.sum() > 500
    assert lines.sum() >= 2 * 10, "several lines, at least ten pixels high each"
    assert not ink[:, :GAP].any()
    assert not ink[:, -GAP:].any(), "wrapped inside the sheet"
    write_video(tmp_path / "sheet.png", sheet[None])
    np.testing.assert_array_equal(read_video(tmp_path / "sheet.png")[0][0], sheet)


def test_contact_sheet_refuses_what_it_cannot_lay_out() -> None:
    clip = np.zeros((5, 7, 9, 3), np.uint8)
    for rows, options in (([], {}), ([clip], {"columns": 0}), ([clip], {"scale": 0}), ([clip], {"captions": []})):
        with pytest.raises(ValueError, match="sheet"):
            contact_sheet(rows, **options)
    for bad in (clip[0], clip.astype(np.float32), clip[:0]):
        with pytest.raises(ValueError, match="clip 1"):
            contact_sheet([clip, bad])


def test_side_by_side_plays_every_clip_at_once() -> None:
    ramp = np.arange(3, dtype=np.uint8)[:, None, None, None]
    clips = [np.full((3, 5, 7, 3), 40 * number, np.uint8) + ramp for number in range(3)]
    whole = side_by_side(clips, columns=2, scale=2)
    assert whole.shape[0] == 3 and whole.shape[1] % 2 == 0 and whole.shape[2] % 2 == 0
    width, height = 7 * 2 + 2 * GAP, 5 * 2 + 2 * GAP
    for number, clip in enumerate(clips):
        top, left = number // 2 * height + GAP, number % 2 * width + GAP
        shown = whole[:, top : top + 10, left : left + 14]
        assert np.array_equal(shown, clip.repeat(2, axis=1).repeat(2, axis=2))
    assert (whole[:, height:, width:] == 255).all()
    with pytest.raises(ValueError, match="of one shape"):
        side_by_side([clips[0], clips[1][:2]])
    with pytest.raises(ValueError, match="one or more"):
        side_by_side([])
