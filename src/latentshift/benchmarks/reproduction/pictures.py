"""The picture of a claim, like the paper's Figs. 6 and 7: one prompt after the other, and a row of frames a system."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentshift.benchmarks.reproduction.claims import Claim
from latentshift.benchmarks.reproduction.decide import label_of
from latentshift.evaluation.sheet import comparison_sheet
from latentshift.evaluation.sprites.parts import PARTS, prompts_of
from latentshift.video import read_video, write_video

PICTURES = "pictures"
_PROMPTS = 3
_COLUMNS = 8


def draw_sheet(claim: Claim, folder: Path) -> str:
    """Draw the first prompts' clips of a claim's systems, of the first seed; returns the file relative to the folder.

    The first prompts and not the best: a picture that is chosen by its looks shows nothing.
    """
    rows: dict[str, list[np.ndarray]] = {}
    prompts: list[str] = []
    for system, name in claim.sheet:
        part = next(each for each in PARTS if each.name == name)
        clips = folder / system / "study" / "clips" / name
        first = sorted(clips.iterdir(), key=lambda path: int(path.stem.rpartition("-")[2]))[:_PROMPTS]
        frames = [read_video(path)[0] for path in first]
        wanted = prompts_of(part, len(first), frames[0].shape[1])
        prompts = [prompt for _, prompt, _ in wanted]
        rows[label_of(system, name)] = frames
    picture = Path(PICTURES) / f"claim-{claim.number}.png"
    write_video(folder / picture, comparison_sheet(prompts, rows, _COLUMNS)[None])
    return picture.as_posix()
