"""Reading readings: all workers' files (:mod:`latentshift.evaluation.protocols.readings_files`) as one.

Legend of shapes: R rows of a video, D features.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from latentshift.evaluation.protocols.readings_files import (
    FLOAT_BYTES,
    LINES,
    MAX_LINE,
    SHAPE,
    Reading,
    read_lines,
    remedy,
    rows_path,
)
from latentshift.user_input.bounded_read import parse_json_bounded


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
        self.paths = sorted(folder.glob(LINES))
        self._worker = np.full(total, -1, np.int32)
        self._place = np.zeros(total, np.int64)  # of the line in its file
        self._shape = np.zeros((total, 3), np.int32)  # frames, height, width; 0: rejected
        self._passing = np.zeros(total, bool)
        self.files: dict[int, str] = {}
        self._values: dict[str, np.ndarray] = {}
        self._rows: dict[str, np.ndarray] = {}  # (total, 3): first row, count, checksum; count 0: none
        for worker, path in enumerate(self.paths):
            with path.open("rb") as file:
                begin = 0
                for values, end in read_lines(file, path):
                    self._add(values, worker, begin, path)
                    begin = end

    @property
    def done(self) -> np.ndarray:
        """Which videos are measured or rejected, bool (total,)."""
        done: np.ndarray = self._worker >= 0
        return done

    @property
    def left(self) -> np.ndarray:
        """Indices of the videos to measure in order, int64: new ones, and those whose rejection may pass."""
        return np.flatnonzero(~self.done | self._passing)

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

    def checksums(self, extractor: str, indices: np.ndarray) -> np.ndarray:
        """Number of rows and CRC-32 of them, of videos that have some, int64 (len(indices), 2)."""
        return self._rows[extractor][indices, 1:]

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
                path = rows_path(self.paths[worker], extractor)
                if worker not in files:
                    files[worker] = path.open("rb")
                begin, length = first * width * FLOAT_BYTES, count * width * FLOAT_BYTES
                content = b""
                if begin + length <= os.fstat(files[worker].fileno()).st_size:  # nothing is allocated for a false line
                    files[worker].seek(begin)
                    content = files[worker].read(length)
                if len(content) < length or zlib.crc32(content) != checksum:
                    raise ValueError(f"{path} is damaged: {remedy(self.paths[worker])}")
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
        # On a disk without locks two processes may have made one, and they are the same.
        if self._worker[index] >= 0 and not self._passing[index]:
            return
        self._worker[index], self._place[index] = worker, place
        self._shape[index] = [values.get(each, 0) for each in SHAPE]
        self._passing[index] = values.get("passing", False) is True
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
