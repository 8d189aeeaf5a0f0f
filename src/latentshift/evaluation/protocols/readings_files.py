"""The files of readings: what was measured of each video, in files that only grow.

A worker w has ``worker-00w.jsonl`` with a line a video, and ``worker-00w.EXTRACTOR.f32`` for each extractor, the raw
rows of features one after another. Rows are written first, then the line that tells of them; what no line tells of is
cut off when the worker starts again: a kill at any moment loses the video at hand and no more. What is done is the
union over all workers' files, so that their number may change between two runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from latentshift.user_input.bounded_read import parse_json_bounded, read_appended_lines

MAX_LINE = 2**22  # bytes
LINES = "worker-*.jsonl"
SHAPE = ("frames", "height", "width")
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Reading:
    """One video, apart from its rows of features.

    Attributes:
        index: in the plan.
        prompt: empty for none.
        seed: None for a file.
        frames: 0 for a rejected video, as height and width.
        height, width: in pixels, as the extractors got it.
        values: numbers of the video itself, by the metric's name.
        file: where it lies: a kept clip relative to the result's folder, or the file that was read; None if nowhere.
        rejected: why it could not be measured; empty if it was.
        passing: whether that may be different another time, as a limit of time; the next run then tries again.
        words: what a reader read in it, by attribute; None where it is not sure.
    """

    index: int
    prompt: str = ""
    seed: int | None = None
    frames: int = 0
    height: int = 0
    width: int = 0
    values: dict[str, float] = field(default_factory=dict)
    file: str | None = None
    rejected: str = ""
    passing: bool = False
    words: dict[str, str | None] = field(default_factory=dict)


class DoneCounter:
    """How many videos are done, cheaply and as often as one likes: counts new line ends of all workers' files.

    Args:
        folder: of the files; it may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._count = 0

    def count(self) -> int:
        """Lines of all workers so far."""
        for path in self._folder.glob(LINES):
            begin = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(begin)
                while block := file.read(2**20):
                    self._count += block.count(b"\n")
                    begin += len(block)
            self._read[path] = begin
        return self._count


def rows_path(lines: Path, extractor: str) -> Path:
    """The file of an extractor's rows, beside a worker's lines.

    Raises:
        ValueError: for a name that no file may have.
    """
    if not re.fullmatch(r"[\w.:-]+", extractor):
        raise ValueError(f"an extractor's name can't be {extractor!r}")
    return lines.with_name(f"{lines.stem}.{extractor.replace(':', '.')}.f32")


def remedy(lines: Path) -> str:
    """What to do about a worker's damaged files, for messages."""
    return f"delete {lines.parent / lines.stem}.*, and the same command measures its videos again"


def read_lines(file: BinaryIO, path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The complete lines of a worker, each with its end in bytes; a last one without a line end was cut by a kill.

    Raises:
        ValueError: for a line that is damaged.
    """
    return read_appended_lines(file, path, _parse, remedy(path), MAX_LINE)


def _parse(line: bytes) -> dict[str, Any]:
    values = parse_json_bounded(line.decode(), "it")
    if not _is_sound(values):
        raise ValueError
    return dict(values)


def _is_sound(values: Any) -> bool:
    """Whether a line has the types that are relied on."""
    if not isinstance(values, dict) or type(values.get("index")) is not int:
        return False
    numbers, rows, words = values.get("values", {}), values.get("rows", {}), values.get("words", {})
    return (
        isinstance(values.get("file", ""), str)
        and isinstance(words, dict)
        and all(each is None or isinstance(each, str) for each in words.values())
        and all(type(values.get(each, 0)) is int and 0 <= values.get(each, 0) < 2**31 for each in SHAPE)
        and isinstance(numbers, dict)
        and all(isinstance(each, int | float) for each in numbers.values())
        and isinstance(rows, dict)
        and all(
            isinstance(counts, list)
            and len(counts) == 3
            and all(type(each) is int and 0 <= each < 2**62 for each in counts)
            for counts in rows.values()
        )
    )
