"""The one list that every source becomes: a clip's file, its captions, where its window may lie.

A manifest is a file of JSON lines. It is written once, in the order of the source, and read by position: in memory
stands where each line begins (8 bytes a clip), nothing else, so that ten million clips take 80 MB. Knows no source and
no video.
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

from latentshift.bounded_read import parse_json_bounded
from latentshift.data.media import is_image
from latentshift.data.rejected import Kind
from latentshift.files import atomic_write

MAX_LINE = 2**24  # bytes


@dataclass(frozen=True)
class Row:
    """One clip that a source offers.

    Attributes:
        file: the file it is in.
        captions: one or more; training draws one of them.
        source: the name of the source.
        split: ``"train"``, ``"val"``, ``"test"``, or empty where the source has none.
        start: where in the video its window may begin, in seconds; None for the beginning.
        end: where its window must end, in seconds; None for the end.
        offset: for a member of a tar: where its bytes begin in ``file``.
        size: likewise, how many there are.
        member: likewise, its name.
        image_captions: of a single frame of it; empty where the captions serve for that too.
        file_bytes: how long the file was when it was listed, where that was looked at.
        file_hash: likewise, of its content, as :func:`latentshift.data.content.content_hash` makes it.
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
        """What reports call it."""
        inside = printable(f"{self.file}/{self.member}" if self.member else self.file)
        if self.start is None and self.end is None:
            return inside
        return f"{inside} [{self.start or 0:g} s – {'end' if self.end is None else f'{self.end:g} s'}]"

    @property
    def is_image(self) -> bool:
        """Whether it is a single image, by its name."""
        return is_image(self.member or self.file)

    def to_json(self) -> str:
        """One line, without what is at its default."""
        values = {key: value for key, value in vars(self).items() if value not in (None, "", ())}
        return json.dumps(values)  # in ASCII: a file name may be no UTF-8


@dataclass(frozen=True)
class RejectedRow:
    """Something in a source that cannot become a row.

    Attributes:
        name: the file, or the line of the list that names it.
        kind: one of ``refusal.KINDS``.
        reason: a sentence without the name.
        caption: whether it is one caption of a clip, and not a clip.
    """

    name: str
    kind: Kind
    reason: str
    caption: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "reason", printable(self.reason))


Entry = Row | RejectedRow


def not_text(caption: str) -> str:
    """Why a caption is no text: JSON can spell characters (``"\\ud800"``) that no encoding can write; else empty."""
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        return f"its caption holds {caption[error.start]!a}, which is no character"
    return ""


def printable(name: str) -> str:
    """A file's name with what is no UTF-8 in it spelled out."""
    return name.encode(errors="backslashreplace").decode()


class Manifest:
    """The rows of a manifest, by position.

    Args:
        path: a file of JSON lines, each a :class:`Row`. Files that are not absolute lie beside the manifest.

    Raises:
        ValueError: where the file or one of its lines is no manifest; the message names the line.
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
        """Every row; a line that can't be understood is left out, and so costs no other."""
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
    """A row from what a line holds.

    Raises:
        ValueError: for a key that is missing or unknown, or a value of the wrong kind.
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


def write_manifest(target: Path, entries: Iterator[Entry], leave_out: Callable[[RejectedRow], None]) -> int:
    """Write a source's rows, whole or not at all; how many they were.

    Args:
        target: the file.
        entries: rows, and what is left out.
        leave_out: told of everything that is left out.
    """
    rows = 0
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for entry in entries:
            if isinstance(entry, RejectedRow):
                leave_out(entry)
            else:
                file.write(entry.to_json() + "\n")
                rows += 1
    return rows
