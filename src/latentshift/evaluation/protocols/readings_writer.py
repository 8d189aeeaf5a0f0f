"""Writing readings: the files of one worker (:mod:`latentshift.evaluation.protocols.readings_files`).

Legend of shapes: R rows of a video, D features.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from latentshift.evaluation.protocols.readings_files import FLOAT_BYTES, Reading, read_lines, remedy, rows_path
from latentshift.files import open_to_write_alone


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
        self._lines = open_to_write_alone(path)
        self._rows: dict[str, BinaryIO] = {}
        self._counts = dict.fromkeys(widths, 0)
        end = 0
        try:
            for values, end in read_lines(self._lines, path):  # noqa: B007  (the last end is where the file is cut)
                for name, (first, count, _) in values.get("rows", {}).items():
                    if name in self._counts:
                        self._counts[name] = first + count
            self._lines.truncate(end)
            for name, width in widths.items():
                rows_file = rows_path(path, name)
                self._rows[name] = rows_file.open("ab")
                expected = self._counts[name] * width * FLOAT_BYTES
                if rows_file.stat().st_size < expected:
                    raise ValueError(f"{rows_file} is shorter than {path} says: {remedy(path)}")
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
        given = asdict(reading).items()
        line = {key: value for key, value in given if value not in (None, "", {}) and value is not False}
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
