"""Comparison sheets: which frames stand where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentshift.contact_sheet import GAP
from latentshift.evaluation.sheet import comparison_sheet, read_clips
from latentshift.video import read_metadata, read_video, write_video
from latentshift.video.prompt_slug import prompt_slug

PROMPTS = ["a red star", "a blue dot"]


def plain(level: int, frames: int = 8, size: int = 96) -> np.ndarray:
    """A clip whose frame f is of a colour that no letter has: red ``level`` + f, no green, all blue."""
    clip = np.zeros((frames, size, size, 3), np.uint8)
    clip[..., 0] = np.arange(level, level + frames)[:, None, None]
    clip[..., 2] = 255
    return clip


def levels(sheet: np.ndarray) -> list[int]:
    """The levels of all frames, row by row; each must be a square of 96 pixels."""
    found = []
    framed = (sheet[..., 1] == 0) & (sheet[..., 2] == 255)
    for level in np.unique(sheet[framed][:, 0]):
        where = np.argwhere(framed & (sheet[..., 0] == level))
        top, left = where.min(axis=0)
        assert len(where) == 96 * 96 and ((where.max(axis=0) - (top, left)) == 95).all()
        found.append((top, left, int(level)))
    return [level for _, _, level in sorted(found)]


def test_a_row_of_evenly_spaced_frames_for_each_prompt_and_system() -> None:
    clips = {"ours": [plain(50), plain(60)], "theirs": [plain(70, size=48), plain(80)]}
    sheet = comparison_sheet(PROMPTS, clips, columns=3)
    assert levels(sheet) == [50, 54, 57, 70, 74, 77, 60, 64, 67, 80, 84, 87]
    assert sheet.shape[1] == 2 * 12 + 96 + 3 * 96 + 2 * GAP  # margins, names, frames


def test_images_stand_side_by_side() -> None:
    clips = {name: [plain(level, 1), plain(level + 1, 1)] for name, level in (("a", 50), ("b", 60), ("c", 70))}
    assert levels(comparison_sheet(PROMPTS, clips)) == [50, 60, 70, 51, 61, 71]


def test_sheets_that_can_not_be_drawn() -> None:
    for prompts, clips, columns in (([], {"a": []}, 1), (PROMPTS, {}, 1), (PROMPTS, {"a": [plain(1)] * 2}, 0)):
        with pytest.raises(ValueError, match="one prompt, system and column or more"):
            comparison_sheet(prompts, clips, columns)
    with pytest.raises(ValueError, match="takes as many clips of a, not 1"):
        comparison_sheet(PROMPTS, {"a": [plain(1)]})
    with pytest.raises(ValueError, match="would be higher than"):
        comparison_sheet(PROMPTS * 100, {"a": [plain(1)] * 200}, height=100)
    with pytest.raises(ValueError, match="would be wider than"):
        comparison_sheet(["a"], {"a": [plain(0, 200)]}, columns=200)


def test_from_folders_of_clips(cli, tmp_path: Path) -> None:
    for name, suffix in (("ours", ".mp4"), ("theirs", ".webp")):
        for seed, prompt in enumerate(PROMPTS):
            write_video(
                tmp_path / name / f"{prompt_slug(prompt)}-{seed}{suffix}", plain(seed), metadata={"prompt": prompt}
            )
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    code, out, err = cli("evaluate", "sheet", "ours", "them=theirs", "--prompts", "prompts.txt", "-o", "sheet.png")
    assert (code, out, err) == (0, "sheet.png\n", "")
    assert read_metadata("sheet.png") == {"prompts": PROMPTS, "systems": ["ours", "them"]}
    clips, notes = read_clips({"ours": tmp_path / "ours", "them": tmp_path / "theirs"}, PROMPTS)
    assert notes == []
    assert (read_video("sheet.png")[0][0] == comparison_sheet(PROMPTS, clips)).all()
    code, _, err = cli("evaluate", "sheet", "ours", "theirs", "--prompt", "a green cat")
    assert code == 1 and 'the folder ours holds no clip of the prompt "a green cat"' in err
    assert not Path("outputs").exists()


def test_frames_are_chosen_by_time_and_what_would_be_shown_wrongly_is_refused(cli, tmp_path: Path) -> None:
    shades = [Image.fromarray(frame) for frame in plain(0, frames=4, size=16)]
    (tmp_path / "ours").mkdir()
    shades[0].save(  # the first one is on screen for as long as the three others
        tmp_path / "ours" / "star.png", save_all=True, append_images=shades[1:], duration=[300, 100, 100, 100]
    )
    clips, _ = read_clips({"ours": tmp_path / "ours"}, ["star"], columns=6)
    assert clips["ours"][0][:, 0, 0, 0].tolist() == [0, 0, 0, 1, 2, 3]
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "ours" / "star.png")
    code, _, err = cli("evaluate", "sheet", "ours", "--prompt", "star", "-o", "sheet.png")
    assert code == 1 and err.endswith("star.png can't be used: parts of it are transparent\n")
    assert not Path("sheet.png").exists()


def test_letters_that_can_not_be_drawn_are_told(cli, tmp_path: Path) -> None:
    prompt = "a red star, número 日本"
    for name in ("ours", "theirs"):
        write_video(tmp_path / name / "0.webp", plain(0, frames=2), metadata={"prompt": prompt})
    code, out, err = cli("evaluate", "sheet", "ours", "theirs", "--prompt", prompt, "-o", "sheet.png")
    assert code == 0 and out == "sheet.png\n"
    assert "the sheet's font lacks ú日本: empty boxes" in err
