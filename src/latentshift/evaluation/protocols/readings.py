"""What was measured of each video, in files that only grow: a kill at any moment loses the video at hand and no more.

A worker w has ``worker-00w.jsonl`` with a line a video, and ``worker-00w.EXTRACTOR.f32`` for each extractor, the raw
rows of features one after another. Rows are written first, then the line that tells of them; what no line tells of is
cut off when the worker starts again. What is done is the union over all workers' files, so that their number may change
between two runs.

Legend of shapes: R rows of a video, D features.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from latentshift.bounded_read import parse_json_bounded
from latentshift.files import open_locked

MAX_LINE = 2**22  # bytes
_LINES = "worker-*.jsonl"
_SHAPE = ("frames", "height", "width")
_BYTES = 4  # of a float32


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
    words: dict[str, str | None] = field(default_factory=dict)


class ReadingsWriter:
    """The files of one worker, which no other process may write to meanwhile.

    Args:
        folder: of all workers' files.
        worker: 0, 1, ….
        widths: D by the extractor's name; the name may hold letters, digits and ``-_.:``.

    Raises:
        ValueError: if another process has the worker's files, or they are damaged.
    """

    def __init__(self, folder: Path, worker: int, widths: Mapping[str, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._widths = dict(widths)
        path = folder / f"worker-{worker:03}.jsonl"
        self._lines = _open_and_lock(path)
        self._rows: dict[str, BinaryIO] = {}
        self._counts = dict.fromkeys(widths, 0)
        end = 0
        try:
            for values, end in _lines(self._lines, path):  # noqa: B007  (the last end is where the file is cut)
                for name, (first, count, _) in values.get("rows", {}).items():
                    if name in self._counts:
                        self._counts[name] = first + count
            self._lines.truncate(end)
            for name, width in widths.items():
                rows_path = _rows_path(path, name)
                self._rows[name] = rows_path.open("ab")
                expected = self._counts[name] * width * _BYTES
                if rows_path.stat().st_size < expected:
                    raise ValueError(f"{rows_path} is shorter than {path} says: {_remedy(path)}")
                self._rows[name].truncate(expected)
        except BaseException:
            self.close()
            raise

    def append(self, reading: Reading, rows: Mapping[str, np.ndarray]) -> None:
        """Add a video.

        Args:
            reading: of it.
            rows: float32 (R, D) by the extractor's name; of a rejected video none.

        Raises:
            ValueError: for rows of another shape, or values that are not finite.
        """
        counted: dict[str, tuple[int, int, int]] = {}
        content: dict[str, bytes] = {}
        for name, values in rows.items():
            if values.ndim != 2 or values.shape[1] != self._widths[name] or not np.isfinite(values).all():
                raise ValueError(f"rows of {name} are finite and (R, {self._widths[name]}), not {values.shape}")
            content[name] = np.ascontiguousarray(values, "<f4").tobytes()
            counted[name] = self._counts[name], len(values), zlib.crc32(content[name])
        for name, each in content.items():
            self._rows[name].write(each)
            self._rows[name].flush()
            self._counts[name] += counted[name][1]
        line = {key: value for key, value in asdict(reading).items() if value not in (None, "", {})}
        text = json.dumps({**line, **({"rows": counted} if counted else {})}, allow_nan=False)
        self._lines.write(text.encode() + b"\n")
        self._lines.flush()

    def close(self) -> None:
        """Close the files; another process may then have them."""
        for each in (self._lines, *self._rows.values()):
            each.close()

    def __enter__(self) -> ReadingsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


class Readings:
    """All workers' files as one: a few numbers a video are in memory, and rows are read as they are asked for.

    Args:
        folder: of the files; it may be missing.
        total: videos of the plan.
        prefix: whether the plan may be the beginning of a longer one, whose other videos are passed over.

    Attributes:
        files: where each video lies that lies anywhere, by index.

    Raises:
        ValueError: if a line is damaged or of a video that the plan doesn't have.
    """

    def __init__(self, folder: Path, total: int, *, prefix: bool = False) -> None:
        self.folder, self.total, self.prefix = folder, total, prefix
        self.paths = sorted(folder.glob(_LINES))
        self._worker = np.full(total, -1, np.int32)
        self._place = np.zeros(total, np.int64)  # of the line in its file
        self._shape = np.zeros((total, 3), np.int32)  # frames, height, width; 0: rejected
        self.files: dict[int, str] = {}
        self._values: dict[str, np.ndarray] = {}
        self._rows: dict[str, np.ndarray] = {}  # (total, 3): first row, count, checksum; count 0: none
        for worker, path in enumerate(self.paths):
            with path.open("rb") as file:
                begin = 0
                for values, end in _lines(file, path):
                    self._add(values, worker, begin, path)
                    begin = end

    @property
    def done(self) -> np.ndarray:
        """Which videos are measured or rejected, bool (total,)."""
        done: np.ndarray = self._worker >= 0
        return done

    @property
    def measured(self) -> np.ndarray:
        """Indices of the measured videos in order, int64."""
        return np.flatnonzero(self._shape[:, 0])

    @property
    def frames(self) -> int | None:
        """Of each measured video; None where they differ."""
        counts = np.unique(self._shape[self.measured, 0])
        return int(counts[0]) if len(counts) == 1 else None

    @property
    def size(self) -> str | None:
        """``width x height`` of each measured video in pixels; None where they differ."""
        sizes = np.unique(self._shape[self.measured, 1:], axis=0)
        return f"{sizes[0, 1]}x{sizes[0, 0]}" if len(sizes) == 1 else None

    def value_names(self) -> list[str]:
        """Of the numbers of videos themselves."""
        return sorted(self._values)

    def values(self, name: str) -> dict[int, float]:
        """A number of each video that has it, by index."""
        column = self._values.get(name)
        if column is None:
            return {}
        known = np.flatnonzero(~np.isnan(column))
        return {int(index): float(column[index]) for index in known}

    def with_rows(self, extractor: str) -> np.ndarray:
        """Indices of the videos that have rows of an extractor, in order, int64."""
        counts = self._rows.get(extractor)
        return np.zeros(0, np.int64) if counts is None else np.flatnonzero(counts[:, 1])

    def keep_rows(self, extractor: str, indices: np.ndarray) -> None:
        """Pass over an extractor's rows of all videos but some."""
        counts = self._rows.get(extractor)
        if counts is not None:
            counts[np.setdiff1d(np.arange(self.total), indices)] = 0

    def row_count(self, extractor: str, indices: np.ndarray | None = None) -> int:
        """Rows of an extractor in all, or of some videos."""
        counts = self._rows.get(extractor)
        if counts is None:
            return 0
        return int(counts[:, 1].sum() if indices is None else counts[indices, 1].sum())

    def frame_count(self, indices: np.ndarray) -> int:
        """Frames of some videos together."""
        return int(self._shape[indices, 0].sum(dtype=np.int64))

    def rows(self, extractor: str, width: int, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Rows of videos that have them, float32 (R, D) each, in the order asked for.

        Raises:
            ValueError: if a file is damaged.
        """
        files: dict[int, BinaryIO] = {}
        try:
            for index in indices:
                first, count, checksum = self._rows[extractor][index].tolist()
                worker = int(self._worker[index])
                path = _rows_path(self.paths[worker], extractor)
                if worker not in files:
                    files[worker] = path.open("rb")
                begin, length = first * width * _BYTES, count * width * _BYTES
                content = b""
                if begin + length <= os.fstat(files[worker].fileno()).st_size:  # nothing is allocated for a false line
                    files[worker].seek(begin)
                    content = files[worker].read(length)
                if len(content) < length or zlib.crc32(content) != checksum:
                    raise ValueError(f"{path} is damaged: {_remedy(self.paths[worker])}")
                yield np.frombuffer(content, "<f4").reshape(count, width)
        finally:
            for each in files.values():
                each.close()

    def reading(self, index: int) -> Reading:
        """One video that is done, read from its line."""
        path = self.paths[int(self._worker[index])]
        with path.open("rb") as file:
            file.seek(int(self._place[index]))
            values = parse_json_bounded(file.readline(MAX_LINE).decode(), str(path))
        return Reading(**{key: value for key, value in values.items() if key != "rows"})

    def rejected(self) -> Iterator[Reading]:
        """The rejected videos in order."""
        return (self.reading(int(index)) for index in np.flatnonzero(self.done & (self._shape[:, 0] == 0)))

    def _add(self, values: dict[str, Any], worker: int, place: int, path: Path) -> None:
        index = values["index"]
        if self.prefix and index >= self.total:
            return
        if not 0 <= index < self.total:
            raise ValueError(f"{path} is of another plan: it has video {index}, and there are {self.total}")
        if self._worker[index] >= 0:  # on a disk without locks two processes may have made one; they are the same
            return
        self._worker[index], self._place[index] = worker, place
        self._shape[index] = [values.get(each, 0) for each in _SHAPE]
        if "file" in values:
            self.files[index] = values["file"]
        for name, value in values.get("values", {}).items():
            if name not in self._values:
                self._values[name] = np.full(self.total, np.nan)
            self._values[name][index] = value
        for name, counts in values.get("rows", {}).items():
            if name not in self._rows:
                self._rows[name] = np.zeros((self.total, 3), np.int64)
            self._rows[name][index] = counts


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
        for path in self._folder.glob(_LINES):
            begin = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(begin)
                while block := file.read(2**20):
                    self._count += block.count(b"\n")
                    begin += len(block)
            self._read[path] = begin
        return self._count


def _rows_path(lines: Path, extractor: str) -> Path:
    if not re.fullmatch(r"[\w.:-]+", extractor):
        raise ValueError(f"an extractor's name can't be {extractor!r}")
    return lines.with_name(f"{lines.stem}.{extractor.replace(':', '.')}.f32")


def _remedy(lines: Path) -> str:
    return f"delete {lines.parent / lines.stem}.*, and the same command measures its videos again"


def _open_and_lock(path: Path) -> BinaryIO:
    try:
        return open_locked(path)
    except BlockingIOError:
        raise ValueError(f"another process is writing {path}; wait for it, or stop it, and run again") from None
    except OSError as error:
        raise ValueError(f"{path} can't be locked ({error.strerror}); choose a folder on another disk") from None


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The complete lines of a worker, each with its end in bytes; a last one without a line end was cut by a kill."""
    file.seek(0)
    end = number = 0
    while (line := file.readline(MAX_LINE + 1)).endswith(b"\n"):
        number += 1
        end += len(line)
        try:
            values = parse_json_bounded(line.decode(), "it")
            sound = _is_sound(values)
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(f"{path} line {number} is damaged: {_remedy(path)}")
        yield values, end
    if len(line) > MAX_LINE:
        raise ValueError(f"{path} line {number + 1} is damaged: {_remedy(path)}")


def _is_sound(values: Any) -> bool:
    """Whether a line has the types that are relied on."""
    if not isinstance(values, dict) or type(values.get("index")) is not int:
        return False
    numbers, rows, words = values.get("values", {}), values.get("rows", {}), values.get("words", {})
    return (
        isinstance(values.get("file", ""), str)
        and isinstance(words, dict)
        and all(each is None or isinstance(each, str) for each in words.values())
        and all(type(values.get(each, 0)) is int and 0 <= values.get(each, 0) < 2**31 for each in _SHAPE)
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
