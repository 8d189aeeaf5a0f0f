"""The option ``--size``."""

from __future__ import annotations


def parse_size(size: str | None) -> tuple[int | None, int | None]:
    """Width and height in pixels; None where none is given.

    Raises:
        ValueError: unless it is a number, or two with an x between.
    """
    if size is None:
        return None, None
    parts = size.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--size must be a number of pixels, as 64, or width x height, as 96x64, not {size!r}")
    return int(parts[0]), int(parts[-1])
