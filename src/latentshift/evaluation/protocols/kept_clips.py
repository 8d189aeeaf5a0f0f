"""Clips in the folder of a result, ``clips/``: none, the best and the worst, or all of them.

All are kept without loss, so that they can be measured again as if they had just been made; they are found by prompt
and seed, so that none is made twice. The best and worst are kept in a kind that browsers play and that is small.

Legend of shapes: F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latentshift.evaluation.protocols.examples import EACH, best_and_worst
from latentshift.evaluation.protocols.measure import CLIPSIM
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.systems import KeepWord
from latentshift.files import clear_leftovers
from latentshift.video import read_metadata, read_video, write_video
from latentshift.video.prompt_slug import prompt_slug

FOLDER = "clips"


class KeptClips:
    """The clips of one result.

    Args:
        folder: of the result.
        word: which are kept.
        fps: of the files.
        contents: fingerprint of whatever made them, which a kept clip must have to be used again.
    """

    def __init__(self, folder: Path, word: KeepWord, fps: float, contents: str) -> None:
        self.folder, self.word, self.fps, self.contents = folder, word, fps, contents
        self._values: dict[int, float] = {}  # of the examples so far
        self._own: dict[int, str] = {}  # examples of this process

    def start(self, readings: Readings) -> None:
        """Take notice of what was measured before."""
        self._values = readings.values(CLIPSIM) or {int(index): 0.0 for index in readings.measured[: 2 * EACH]}
        self._values = {index: self._values[index] for index in self._chosen()}

    def read(self, item: Item) -> np.ndarray | None:
        """The video of an item, uint8 (F, H, W, 3), if it was kept without loss; None if it has to be made."""
        if self.word != "all":
            return None
        for suffix in (".webp", ".png"):
            path = self.folder / _name(item.prompt, item.seed, suffix)
            try:
                written = read_metadata(path)
                if (written.get("prompt"), written.get("seed"), written.get("contents")) == self._own_of(item):
                    return read_video(path)[0]
            except (ValueError, OSError):  # not there, or cut short by a power failure: it is made again
                continue
        return None

    def keep(self, reading: Reading, video: np.ndarray) -> str | None:
        """Write a measured video if it is to stay; the path relative to the result, None if it isn't."""
        if self.word == "none":
            return None
        metadata = {"prompt": reading.prompt, "seed": reading.seed, "contents": self.contents}
        if self.word == "all":
            name = _name(reading.prompt, reading.seed, ".png" if len(video) == 1 else ".webp")
            write_video(self.folder / name, video, fps=self.fps, metadata=metadata, loop=True)
            return name
        self._values[reading.index] = reading.values.get(CLIPSIM, 0.0)
        chosen = set(self._chosen())
        self._values = {index: value for index, value in self._values.items() if index in chosen}
        for index in self._own.keys() - chosen:
            (self.folder / self._own.pop(index)).unlink(missing_ok=True)
        if reading.index not in chosen:
            return None
        name = _name(reading.prompt, reading.seed, _playable(video))
        write_video(self.folder / name, video, fps=self.fps, metadata=metadata, loop=True)
        self._own[reading.index] = name
        return name

    def files(self, shown: Sequence[Reading], readings: Readings) -> list[str | None]:
        """The file of each video to show, if it was kept; where only those are kept, all others are deleted.

        To be called when all videos are measured: what killed workers left of a clip goes too.
        """
        clear_leftovers(self.folder / FOLDER)
        names = [each.file if each.file and (self.folder / each.file).is_file() else None for each in shown]
        if self.word == "examples":
            for each in set(readings.files.values()) - set(names):
                (self.folder / each).unlink(missing_ok=True)
        return names

    def _chosen(self) -> list[int]:
        """Of the videos that are known, those to show: the very rule of :mod:`.examples`."""
        if any(self._values.values()):
            return best_and_worst(self._values)
        return sorted(self._values)[: 2 * EACH]

    def _own_of(self, item: Item) -> tuple[str, int | None, str]:
        return item.prompt, item.seed, self.contents


def write_example(folder: Path, reading: Reading, video: np.ndarray, fps: float) -> str:
    """Write one video to show; its name tells prompt and index.

    Args:
        folder: of the result.
        reading: of the video.
        video: uint8 (F, H, W, 3).
        fps: of the file.

    Returns:
        The path relative to ``folder``.
    """
    name = _name(reading.prompt, reading.index, _playable(video))
    write_video(folder / name, video, fps=fps, metadata={"prompt": reading.prompt}, loop=True)
    return name


def _name(prompt: str, number: int | None, suffix: str) -> str:
    return f"{FOLDER}/{prompt_slug(prompt)}-{number}{suffix}"


def _playable(video: np.ndarray) -> str:
    height, width = video.shape[1:3]
    return ".png" if len(video) == 1 else ".webp" if height % 2 or width % 2 else ".mp4"
