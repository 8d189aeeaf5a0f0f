"""Reading the lists that captions come in: UTF-8, and a clear sentence where they are not."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def reading(path: Path) -> Iterator[TextIO]:
    """An open text file; a byte order mark is no part of it.

    Raises:
        ValueError: where it can't be read, is not UTF-8, or is no csv.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no csv that can be read: {error}") from None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line, without its end."""
    with reading(path) as file:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip("\r\n")
