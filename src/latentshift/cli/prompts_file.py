"""A file of prompts, one on each line."""

from __future__ import annotations

import io
from pathlib import Path

from latentshift.bounded_read import read_text_bounded

_MAX_BYTES = 2**22


def read_prompts_file(file: Path) -> list[str]:
    """The lines that are not blank.

    Raises:
        ValueError: if it can't be read, is too long, or is not UTF-8.
    """
    text = read_text_bounded(file, _MAX_BYTES, "the prompts file", pipes=True)
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None) if line.strip()]
