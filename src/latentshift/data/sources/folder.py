"""A folder of videos and images with captions beside them, in one of three layouts.

- ``metadata.csv`` or ``metadata.jsonl`` with ``file_name`` and ``text`` (by choice ``start``, ``end`` and ``split``);
- ``videos.txt`` and ``prompt.txt``, line by line;
- a ``.txt`` of the same name beside each video or image.
"""

from __future__ import annotations

import csv
import json
import math
import os
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.data.manifest import Entry, RejectedRow, Row
from latentshift.data.media import IMAGES, VIDEOS, is_media
from latentshift.data.sources.text import lines_of, reading

_LISTS = ("metadata.csv", "metadata.jsonl", "videos.txt")


def read_folder(folder: Path, name: str = "folder") -> Iterator[Entry]:
    """Every video and image of a folder and those below it, captioned, or named as left out.

    Args:
        folder: in one of the three layouts.
        name: of the source, for the rows.

    Raises:
        ValueError: for a folder that is missing, or in more than one layout, or whose lists can't be read.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found = [each for each in _LISTS if (folder / each).is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} holds {' and '.join(found)}: keep the one that has the captions")
    if not found:
        return _beside(folder, name)
    rows = {"metadata.csv": _csv, "metadata.jsonl": _jsonl, "videos.txt": _line_by_line}[found[0]]
    return _listed(folder, found[0], rows(folder), name)


def _listed(folder: Path, list_name: str, entries: Iterator[tuple[int, dict[str, Any]]], name: str) -> Iterator[Entry]:
    """The rows of a list, then the files of the folder that no row names."""
    named = _Names()
    for line, values in entries:
        where = f"{folder / list_name} line {line}"
        file = values.get("file_name")
        if not isinstance(file, str) or not file.strip():
            yield RejectedRow(where, "bad-row", "its file_name is empty")
            continue
        path = os.path.normpath(folder / file.strip())
        named.add(path)
        captions = values.get("text")
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            yield RejectedRow(
                path, "bad-row", f"{list_name} line {line}: its text must be a sentence or a list of them"
            )
            continue
        captions = [caption.strip() for caption in captions if caption.strip()]
        if not captions:
            yield RejectedRow(path, "missing-caption", f"{list_name} line {line}: its text is empty")
            continue
        times: dict[str, float | None] = {}
        wrong = ""
        for key in ("start", "end"):
            try:
                seconds = 0.0 if values.get(key) in (None, "") else float(values[key])
            except (TypeError, ValueError):
                seconds = math.nan
            if not 0 <= seconds < math.inf:
                wrong = f"{list_name} line {line}: its {key} must be seconds, 0 or more, not {values[key]!r}"
            times[key] = None if values.get(key) in (None, "") else seconds
        if wrong:
            yield RejectedRow(path, "bad-row", wrong)
            continue
        split = str(values.get("split") or "").strip()
        yield Row(path, tuple(captions), name, split=split, start=times["start"], end=times["end"])
    for path in _media(folder):
        if path not in named:
            yield RejectedRow(path, "missing-caption", f"{list_name} has no row for it")


def _beside(folder: Path, name: str) -> Iterator[Entry]:
    for path in _files(folder):
        if not is_media(path):
            if path.endswith(".txt") and not _has_media(path):
                yield RejectedRow(
                    path, "no-video", "there is no video or image beside it, of its name and a known suffix"
                )
            continue
        text = Path(path).with_suffix(".txt")
        if not text.is_file():
            yield RejectedRow(path, "missing-caption", f"there is no {text.name} beside it")
            continue
        try:
            caption = " ".join(text.read_text(encoding="utf-8-sig").split())
        except (OSError, UnicodeDecodeError):
            yield RejectedRow(path, "missing-caption", f"{text.name} beside it is no UTF-8 text")
            continue
        if caption:
            yield Row(path, (caption,), name)
        else:
            yield RejectedRow(path, "missing-caption", f"{text.name} beside it is empty")


def _csv(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    path = folder / "metadata.csv"
    with reading(path) as file:
        rows = csv.DictReader(file, strict=True)
        _check_columns(path, rows.fieldnames or [])
        for values in rows:
            yield rows.line_num, values


def _check_columns(path: Path, columns: Any) -> None:
    missing = [key for key in ("file_name", "text") if key not in columns]
    if missing:
        raise ValueError(
            f"{path} has no column {' and no column '.join(missing)}; its first line must name the columns"
        )


def _jsonl(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    path = folder / "metadata.jsonl"
    for number, line in lines_of(path):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path} line {number} is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} line {number} must hold an object with file_name and text")
        yield number, values


def _line_by_line(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    prompts = folder / "prompt.txt"
    if not prompts.is_file():
        raise ValueError(f"{folder} holds videos.txt and no prompt.txt: line n of one captions line n of the other")
    counts = [sum(1 for _ in lines_of(each)) for each in (folder / "videos.txt", prompts)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{folder / 'videos.txt'} has {counts[0]} lines and prompt.txt has {counts[1]}: line n of one captions "
            "line n of the other"
        )
    for (number, file), (_, text) in zip(lines_of(folder / "videos.txt"), lines_of(prompts), strict=True):
        yield number, {"file_name": file, "text": text}


def _media(folder: Path) -> Iterator[str]:
    """The videos and images below a folder, in one order everywhere."""
    return (path for path in _files(folder) if is_media(path))


def _files(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    for name, is_folder in listed:
        path = os.path.normpath(folder / name)
        if is_folder:
            yield from _files(Path(path))
        else:
            yield path


def _has_media(text: str) -> bool:
    stem = text.removesuffix(".txt")
    return any(os.path.exists(stem + each) for suffix in IMAGES | VIDEOS for each in (suffix, suffix.upper()))


class _Names:
    """A set of many names in 8 bytes each: only their hashes are kept."""

    def __init__(self) -> None:
        self._added = array("Q")
        self._sorted: np.ndarray | None = None

    def add(self, name: str) -> None:
        self._added.append(_hash(name))
        self._sorted = None

    def __contains__(self, name: str) -> bool:
        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._added.tobytes(), dtype=np.uint64))
        wanted = np.uint64(_hash(name))
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self._sorted) and self._sorted[place] == wanted


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "little")
