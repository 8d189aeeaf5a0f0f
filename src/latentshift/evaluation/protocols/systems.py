"""What makes the videos of a prompt, and which of them are kept: the words, which need no model to be checked."""

from __future__ import annotations

from typing import Literal, get_args

from latentshift.evaluation.report.schema import SystemKind

SystemName = Literal["video", "frozen", "images", "frozen-images"]
SYSTEMS: tuple[SystemName, ...] = get_args(SystemName)
KeepWord = Literal["none", "examples", "all"]
KEEP: tuple[KeepWord, ...] = get_args(KeepWord)
KINDS: dict[str, SystemKind] = {
    "video": "video",
    "frozen": "frozen images",
    "images": "images",
    "frozen-images": "frozen images",
}
