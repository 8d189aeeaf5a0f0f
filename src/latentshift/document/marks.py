"""Marks of a number's warnings: how many of them stand beside it."""

from __future__ import annotations

from collections.abc import Sequence

_MOST = 4  # beside a number; the last one stands for the rest


def shown_marks(marks: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Those that are shown, and those that one more mark stands for."""
    shown = len(marks) if len(marks) <= _MOST else _MOST - 1
    return marks[:shown], marks[shown:]
