"""The list of clips that every source is converted to: file, captions and time range of each clip.

A manifest is a JSON-lines file, written once in the order of the source and read by index. Only line offsets are kept
in memory (8 bytes a clip), so ten million clips take 80 MB. Knows no source and no video.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.data.media import is_image
from latentshift.data.rejected import Kind
from latentshift.files import atomic_write
from latentshift.user_input.bounded_read import parse_json_bounded

MAX_LINE = 2**24  # bytes


@dataclass(frozen=True)
class Row:
    """One clip of a source.

    Attributes:
        file: path of the video, image or tar.
        captions: one or more; training picks one at random.
        source: the name of the source.
        split: ``"train"``, ``"val"``, ``"test"``, or empty if the source has no splits.
        start: start of the clip in the video, in seconds; None for the beginning.
        end: end of the clip in the video, in seconds; None for the end.
        offset: of a tar member: offset of its first byte in ``file``.
        size: of a tar member: its length in bytes.
        member: of a tar member: its name.
        image_captions: captions of single frames; empty if ``captions`` are used for these too.
        file_bytes: size of the file when it was listed; None if not recorded.
        file_hash: hash of its content, as :func:`latentshift.data.content.content_hash` computes it; None if not
            recorded.
    """

    file: str
    captions: tuple[str, ...]
    source: str
    split: str = ""
    start: float | None = None
    end: float | None = None
    offset: int | None = None
    size: int | None = None
    member: str | None = None
    image_captions: tuple[str, ...] = ()
    file_bytes: int | None = None
    file_hash: str | None = None

    @property
    def name(self) -> str:
        """Its name in reports."""
        inside = escape_invalid_utf8(f"{self.file}/{self.member}" if self.member else self.file)
        if self.start is None and self.end is None:
            return inside
        return f"{inside} [{self.start or 0:g} s – {'end' if self.end is None else f'{self.end:g} s'}]"

    @property
    def is_image(self) -> bool:
        """Whether it is a single image, by file name."""
        return is_image(self.member or self.file)

    def to_json(self) -> str:
        """One line of JSON, without values that are at their default."""
        values = {key: value for key, value in vars(self).items() if value not in (None, "", ())}
        return json.dumps(values)  # in ASCII: a file name need not be valid UTF-8


@dataclass(frozen=True)
class RejectedRow:
    """An entry of a source that can't become a row.

    Attributes:
        name: the file, or the line of the list that names it.
        kind: one of :data:`latentshift.data.rejected.KINDS`.
        reason: a sentence without the name.
        caption: whether it is a single caption of a clip instead of a clip.
    """

    name: str
    kind: Kind
    reason: str
    caption: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", escape_invalid_utf8(self.name))
        object.__setattr__(self, "reason", escape_invalid_utf8(self.reason))


Entry = Row | RejectedRow


def not_text(caption: str) -> str:
    """Why a caption is not valid text (JSON can hold lone surrogates, ``"\\ud800"``); empty if it is valid."""
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        return f"its caption holds {caption[error.start]!a}, which is no character"
    return ""


def escape_invalid_utf8(name: str) -> str:
    """A file name with invalid UTF-8 escaped."""
    return name.encode(errors="backslashreplace").decode()


class Manifest:
    """The rows of a manifest, by index.

    Args:
        path: a JSON-lines file of :class:`Row`. Relative file names are relative to the manifest.

    Raises:
        ValueError: if the file or a line in it is not valid; the message names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ValueError(f"there is no manifest {path}")
        lengths: list[np.ndarray] = []
        digest = hashlib.sha256()
        carry = 0
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
                ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + carry + 1
                lengths.append(ends)
                carry += len(block)
        ends = np.concatenate([np.zeros(1, dtype=np.int64), *lengths])
        if ends[-1] < carry:  # a last line without its end
            ends = np.append(ends, carry)
        self._starts = ends
        self.digest = digest.hexdigest()[:16]
        if not len(self):
            raise ValueError(f"{path} lists no clips")
        longest = int(np.diff(ends).argmax())
        if ends[longest + 1] - ends[longest] > MAX_LINE:
            raise ValueError(f"{path} line {longest + 1} is longer than {MAX_LINE:,} bytes, the most that is read")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} lists {len(self)} clips, so there is no clip {index}")
        with self.path.open("rb") as file:
            file.seek(int(self._starts[index]))
            line = file.read(int(self._starts[index + 1] - self._starts[index]))
        return self._parsed(line, index)

    def __iter__(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for index in range(len(self)):
                yield self._parsed(file.read(int(self._starts[index + 1] - self._starts[index])), index)

    def entries(self) -> Iterator[Entry]:
        """Every row; an invalid line gives a :class:`RejectedRow` and does not affect the others."""
        with self.path.open("rb") as file:
            for index in range(len(self)):
                line = file.read(int(self._starts[index + 1] - self._starts[index]))
                if not line.strip():
                    continue
                try:
                    yield self._parsed(line, index)
                except ValueError as error:
                    where = f"{self.path} line {index + 1}"
                    yield RejectedRow(where, "bad-row", str(error).removeprefix(where).lstrip(": "))

    def _parsed(self, line: bytes, index: int) -> Row:
        where = f"{self.path} line {index + 1}"
        try:
            text = line.decode("utf-8-sig" if index == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where} is not UTF-8 text (byte {error.start}: {error.reason})") from None
        return row_from(parse_json_bounded(text, where), where, self.path.parent)


def row_from(values: Any, where: str, folder: Path) -> Row:
    """A row from the values of a line.

    Raises:
        ValueError: for a missing or unknown key, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must hold an object with file, captions and source")
    unknown = sorted(values.keys() - _KINDS.keys())
    missing = sorted({"file", "captions", "source"} - values.keys())
    if unknown or missing:
        raise ValueError(f"{where} " + (f"lacks {', '.join(missing)}" if missing else f"knows no {', '.join(unknown)}"))
    for key, value in values.items():
        number = isinstance(value, int | float)
        if not isinstance(value, _KINDS[key]) or isinstance(value, bool) or (number and not 0 <= value < math.inf):
            raise ValueError(f"{where}: {key} can't be {value!r}")
    listed = {key: tuple(values[key]) for key in ("captions", "image_captions") if key in values}
    if not listed["captions"] or not all(isinstance(caption, str) for each in listed.values() for caption in each):
        raise ValueError(f"{where}: captions must be one sentence or more")
    for caption in (caption for each in listed.values() for caption in each):
        if wrong := not_text(caption):
            raise ValueError(f"{where}: {wrong}")
    file = values["file"]
    return Row(**{**values, **listed, "file": file if "://" in file else str(folder / file)})


_KINDS: dict[str, Any] = {
    "file": str,
    "captions": list,
    "source": str,
    "split": str,
    "start": (int, float),
    "end": (int, float),
    "offset": int,
    "size": int,
    "member": str,
    "image_captions": list,
    "file_bytes": int,
    "file_hash": str,
}


def write_manifest(target: Path, entries: Iterator[Entry], reject: Callable[[RejectedRow], None]) -> int:
    """Write a source's rows atomically; returns how many there are.

    Args:
        target: the file.
        entries: rows and rejected entries.
        reject: called with each rejected entry.
    """
    rows = 0
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for entry in entries:
            if isinstance(entry, RejectedRow):
                reject(entry)
            else:
                file.write(entry.to_json() + "\n")
                rows += 1
    return rows
