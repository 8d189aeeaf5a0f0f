"""A run's logs: files of JSON lines that are added to, read back, and cut back where a run goes on from before.

Knows nothing of what the lines say, but that each has a ``step``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentshift.files import atomic_write_text


def add_line(path: Path, line: dict[str, Any]) -> None:
    """Add a line.

    Raises:
        OSError: if it can't be written; the message says what to do.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OSError(
            f"{path} can't be written to ({error.strerror}); make room there, and run again: it goes on from the "
            "newest checkpoint"
        ) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole; none if it is not there."""
    if not path.exists():
        return []
    found = (_parsed(line) for line in path.read_bytes().split(b"\n"))
    return [line for line in found if line is not None]


def forget_after(path: Path, step: int) -> None:
    """Leave out what was logged after a step, for it is going to be logged again, and lines that a kill cut short."""
    if path.exists():
        kept = [line for line in read_lines(path) if line["step"] <= step]
        atomic_write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "step" in line else None
