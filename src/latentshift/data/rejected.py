"""Why a clip can't be used: a kind, which reports count by, and a sentence for people.

Every rejected clip has one of these kinds; docs/your-own-videos.md says what to do about each.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

Kind = Literal[
    "missing-file",
    "missing-caption",
    "bad-row",
    "no-video",
    "damaged",
    "no-times",
    "too-short",
    "too-large",
    "interlaced",
    "hdr",
    "transparent",
    "rotated",
    "animated",
    "unsafe-member",
    "crashed",
    "timed-out",
    "out-of-memory",
    "not-finite",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
PASSING: frozenset[Kind] = frozenset(["crashed", "timed-out", "out-of-memory"])  # another time, or limit, may be enough


class Rejected(ValueError):  # noqa: N818  (no error of the program's)
    """A clip that can't be used.

    Args:
        kind: one of ``KINDS``.
        reason: what is wrong, in one sentence without the clip's name.
    """

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def require_file(path: str) -> None:
    """Refuse what can't be opened as a file.

    Raises:
        Rejected: if nothing is there, or a folder, pipe or device.
    """
    if os.path.isfile(path):
        return
    if os.path.exists(path):
        raise Rejected("missing-file", f"it is a {'folder' if os.path.isdir(path) else 'pipe or device'}, and no file")
    raise Rejected("missing-file", "there is no such file")
