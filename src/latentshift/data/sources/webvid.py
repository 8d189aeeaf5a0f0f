"""WebVid's csv (``videoid, contentUrl, duration, page_dir, name``), with the files at ``{page_dir}/{videoid}.mp4``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from latentshift.data.manifest import Entry, RejectedRow, Row
from latentshift.data.sources.text import find_spelling, table_of
from latentshift.files import missing_folder

_COLUMNS = ("videoid", "page_dir", "name")


def read_webvid(table: Path, root: Path | None = None, name: str = "webvid") -> Iterator[Entry]:
    """The rows of the csv, in order.

    Args:
        table: the csv.
        root: the folder that holds the ``page_dir`` folders; by default the csv's own.
        name: of the source, recorded in the rows.

    Raises:
        ValueError: if the csv can't be read or lacks a column.
    """
    root = table.parent if root is None else root
    if not root.is_dir():
        raise ValueError(f"{missing_folder(root)}, for the videos of {table}")
    for line, values in table_of(table, _COLUMNS):
        where = f"{table} line {line}"
        if isinstance(values, str):
            yield RejectedRow(where, "bad-row", values)
            continue
        video, page, caption = (values.get(key, "").strip() for key in _COLUMNS)
        inside = PurePosixPath(page) / f"{video}.mp4"
        if not video:
            yield RejectedRow(where, "bad-row", "its videoid is empty")
        elif inside.is_absolute() or ".." in inside.parts:
            yield RejectedRow(where, "unsafe-member", f"{inside} leads out of {root}")
        elif not caption:
            yield RejectedRow(str(root / inside), "missing-caption", f"{table.name} line {line}: no name")
        else:
            yield Row(find_spelling(str(root / inside)), (" ".join(caption.split()),), name)
