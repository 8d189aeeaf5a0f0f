"""The order of the pictures that are a clip's frames, by their names."""

from __future__ import annotations

import re


def by_number(name: str) -> tuple[list[str | int], str]:
    """A key to sort names by, in which numbers count as such: tools name frames 1.png, 2.png, … 10.png."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name
