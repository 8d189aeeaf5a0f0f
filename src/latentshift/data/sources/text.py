"""Read text lists and csv files line by line, with a limit on line length and clear errors."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

MAX_LINE = 2**22  # characters


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    if path.exists() and not path.is_file():
        raise ValueError(f"cannot read {path}: it is no file; a list is read more than once, so a pipe won't do")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8") from None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line, without line end and byte order mark.

    Raises:
        ValueError: if the file can't be read, is not UTF-8, or has a line of more than ``MAX_LINE`` characters.
    """
    with _reading(path) as file:
        for number, line in enumerate(_bounded(file, path), 1):
            yield number, line.rstrip("\r\n")


def table_of(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """The rows of a csv with a header: line number, and values by column.

    A malformed row gives an error sentence instead: it has more fields than columns (an unquoted comma), or unmatched
    quotes.

    Args:
        path: the csv.
        required: required columns.

    Raises:
        ValueError: as :func:`lines_of`, or if a column is missing or duplicated.
    """
    with _reading(path) as file:
        rows = csv.reader(_bounded(file, path), strict=True)
        try:
            columns = next(rows, [])
        except csv.Error as error:
            raise ValueError(f"{path} line 1 can't be read as csv: {error}") from None
        missing = [each for each in required if each not in columns]
        if missing:
            raise ValueError(
                f"{path} has no column {' and no column '.join(missing)}; its first line must name the columns"
            )
        twice = sorted({each for each in columns if each and columns.count(each) > 1})
        if twice:
            raise ValueError(f"{path} has two columns named {twice[0]}: rename or remove the one that is not meant")
        before = rows.line_num
        while True:
            try:
                values = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                lines = f", lines {before + 1} to {rows.line_num}" if rows.line_num > before + 1 else ""
                yield before + 1, f"it can't be read as csv ({error}){lines}: quotes inside quotes are doubled"
            else:
                if len(values) > len(columns):
                    yield before + 1, _surplus(values, columns)
                elif values:
                    yield before + 1, dict(zip(columns, values, strict=False))
            before = rows.line_num


def find_spelling(path: str) -> str:
    """The path as it exists on disk, with accents composed (NFC) or decomposed (NFD).

    macOS composes names in some places and decomposes them in others; other file systems treat these as two names.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    if folder and folder != path:
        folder = find_spelling(folder)
    for form in ("NFC", "NFD"):
        other = os.path.join(folder, unicodedata.normalize(form, name))
        if os.path.lexists(other):
            return other
    return os.path.join(folder, name)


def _surplus(values: Sequence[str], columns: Sequence[str]) -> str:
    return (
        f"it has {len(values)} fields, and the first line names {len(columns)}: a text with a comma must stand in "
        'double quotes, as "a dog, running"'
    )


def _bounded(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ValueError(f"{path} line {number} is longer than {MAX_LINE:,} characters, the most that is read")
        yield line
