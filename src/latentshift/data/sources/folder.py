"""A folder of videos and images with captions, in one of three layouts.

- ``metadata.csv`` or ``metadata.jsonl`` with ``file_name`` and ``text`` (optionally ``start``, ``end`` and ``split``);
- ``videos.txt`` and ``prompt.txt``, line by line;
- a ``.txt`` file of the same name for each video or image.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.data.manifest import Entry, RejectedRow, Row, not_text
from latentshift.data.media import IMAGES, VIDEOS, is_mac_file, is_media
from latentshift.data.sources.text import find_spelling, lines_of, table_of
from latentshift.files import missing_folder
from latentshift.user_input.bounded_read import parse_json_bounded, read_text_bounded

_MAX_CAPTION = 2**20  # bytes of a .txt file
_Ignore = Callable[[str], object]
_LISTS = ("metadata.csv", "metadata.jsonl", "videos.txt")


def read_folder(
    folder: Path, name: str = "folder", allow_outside: bool = False, ignore: _Ignore = lambda name: None
) -> Iterator[Entry]:
    """All videos and images of a folder and its subfolders, as rows or rejected entries.

    Args:
        folder: in one of the three layouts.
        name: of the source, recorded in the rows.
        allow_outside: whether its list may name files outside the folder, by ``..`` or absolute paths. Symbolic links
            are followed anywhere.
        ignore: called with the names of files added by macOS, which are skipped.

    Raises:
        ValueError: if the folder is missing, mixes layouts, or a list can't be read.
    """
    if not folder.is_dir():
        raise ValueError(missing_folder(folder))
    lists = [each for each in _LISTS if (folder / each).is_file()]
    if len(lists) > 1:
        raise ValueError(f"{folder} holds {' and '.join(lists)}: keep the one that has the captions")
    if not lists:
        return _beside(folder, name, ignore)
    rows = {"metadata.csv": _csv, "metadata.jsonl": _jsonl, "videos.txt": _line_by_line}[lists[0]]
    return _listed(folder, lists[0], rows(folder), name, allow_outside, ignore)


def _listed(
    folder: Path,
    list_name: str,
    entries: Iterator[tuple[int, dict[str, Any] | str]],
    name: str,
    allow_outside: bool,
    ignore: _Ignore,
) -> Iterator[Entry]:
    """The rows of a list, then the files of the folder that are not listed."""
    named = _Names()
    unnamed = 0  # refused lines whose file is not known
    for line, values in entries:
        where = f"{list_name} line {line}"
        if isinstance(values, str):
            unnamed += 1
            yield RejectedRow(str(folder / where), "bad-row", values)
            continue
        path = _path_of(values, folder, where, allow_outside)
        if isinstance(path, RejectedRow):
            yield path
            continue
        named.add(path)
        yield _row_of(values, path, where, name)
    unless = f", or it is one of the {unnamed} that can't be read" if unnamed else ""
    for file in _files(folder, ignore):
        if isinstance(file, RejectedRow):
            yield file
        elif is_media(file) and file not in named:
            yield RejectedRow(file, "missing-caption", f"{list_name} has no row for it{unless}")


def _path_of(values: dict[str, Any], folder: Path, where: str, allow_outside: bool) -> str | RejectedRow:
    """The file that a line of a list names, or why it names none."""
    refused = str(folder / where)
    file = values.get("file_name")
    if not isinstance(file, str) or not file.strip():
        return RejectedRow(refused, "bad-row", "its file_name is empty")
    path = os.path.normpath(folder / file.strip())
    if not path.startswith(os.path.join(os.path.normpath(folder), "")) and not allow_outside:
        return RejectedRow(
            refused,
            "unsafe-member",
            f"{file.strip()} lies outside of {folder}; if that is intended, set allow_outside=true",
        )
    if "\0" in path:
        return RejectedRow(refused, "bad-row", "its file_name holds a null")
    return find_spelling(path)


def _row_of(values: dict[str, Any], path: str, where: str, name: str) -> Entry:
    """A line of a list as a row, or why it can't be one."""
    captions = values.get("text")
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return RejectedRow(path, "bad-row", f"{where}: its text must be a sentence or a list of them")
    captions = [caption.strip() for caption in captions if caption.strip()]
    if not captions:
        return RejectedRow(path, "missing-caption", f"{where}: its text is empty")
    wrong = next((why for each in captions if (why := not_text(each))), "")
    times: dict[str, float | None] = {}
    for key in ("start", "end"):
        given = values.get(key) not in (None, "")
        try:
            seconds = float(values[key]) if given else 0.0
        except (TypeError, ValueError):
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            wrong = f"its {key} must be seconds, 0 or more, not {values[key]!r}"
        times[key] = seconds if given else None
    if wrong:
        return RejectedRow(path, "bad-row", f"{where}: {wrong}")
    split = str(values.get("split") or "").strip()
    if len(split.split()) > 1:  # most likely the end of a caption with an unquoted comma
        return RejectedRow(path, "bad-row", f"{where}: its split must be one word, not {split!r}")
    return Row(path, tuple(captions), name, split=split, start=times["start"], end=times["end"])


def _beside(folder: Path, name: str, ignore: _Ignore) -> Iterator[Entry]:
    for path in _files(folder, ignore):
        if isinstance(path, RejectedRow):
            yield path
            continue
        if not is_media(path):
            if path.endswith(".txt") and not _has_media(path):
                yield RejectedRow(
                    path, "no-video", "there is no video or image beside it, of its name and a known suffix"
                )
            continue
        yield captioned_file(path, name)


def captioned_file(path: str, name: str, caption: str = "", start: float | None = None) -> Entry:
    """A video or image as a row, or rejected for want of a caption.

    Args:
        path: of it.
        name: of the source, recorded in the row.
        caption: of it; empty: what a ``.txt`` of the same name beside it says.
        start: of the clip in the video, in seconds; None for the beginning.
    """
    if not caption.strip():
        text = Path(find_spelling(str(Path(path).with_suffix(".txt"))))
        if not text.is_file():
            return RejectedRow(path, "missing-caption", f"there is no {text.name} beside it")
        try:
            caption = read_text_bounded(text, _MAX_CAPTION)
        except ValueError as error:
            return RejectedRow(path, "missing-caption", str(error))
        if not caption.strip():
            return RejectedRow(path, "missing-caption", f"{text.name} beside it is empty")
    if wrong := not_text(caption):
        return RejectedRow(path, "bad-row", wrong)
    return Row(path, (" ".join(caption.split()),), name, start=start)


def _csv(folder: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    yield from table_of(folder / "metadata.csv", ("file_name", "text"))


def _jsonl(folder: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in lines_of(folder / "metadata.jsonl"):
        if not line.strip():
            continue
        try:
            values = parse_json_bounded(line, "it")
        except ValueError as error:
            yield number, str(error)
            continue
        yield number, values if isinstance(values, dict) else "it must hold an object with file_name and text"


def _line_by_line(folder: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
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


def _files(folder: Path, ignore: _Ignore) -> Iterator[str | RejectedRow]:
    """All files below a folder in a fixed order, and the folders that can't be read."""
    return _walk(str(folder), ignore, (_identity(str(folder)),), set())


def _walk(
    folder: str, ignore: _Ignore, above: tuple[tuple[int, int], ...], linked: set[tuple[int, int]]
) -> Iterator[str | RejectedRow]:
    """As :func:`_files`; ``above``: the parent folders; ``linked``: folders entered through a link."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
    except OSError as error:
        yield RejectedRow(folder, "missing-file", f"the folder can't be read: {error.strerror}")
        return
    for name, is_folder, is_link in listed:
        path = os.path.normpath(os.path.join(folder, name))
        if is_mac_file(name):
            ignore(path)
        elif name.startswith("."):
            continue
        elif not is_folder:
            yield path
        else:
            try:
                identity = _identity(path)
            except OSError as error:
                yield RejectedRow(path, "missing-file", f"the folder can't be read: {error.strerror}")
                continue
            if is_link and (identity in above or identity in linked):
                where = "that it is in" if identity in above else "that another link has led to"
                yield RejectedRow(path, "unsafe-member", f"it is a link to a folder {where}; it is not entered")
                continue
            if is_link:
                linked.add(identity)
            yield from _walk(path, ignore, (*above, identity), linked)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reported as missing when it is read
        return False


def _has_media(text: str) -> bool:
    stem = text.removesuffix(".txt")
    return any(
        os.path.exists(find_spelling(stem + each)) for suffix in IMAGES | VIDEOS for each in (suffix, suffix.upper())
    )


class _Names:
    """A set of names that stores 8-byte hashes."""

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
