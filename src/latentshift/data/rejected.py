"""Why a clip cannot be used: a kind, by which reports count, and a sentence for people.

Every clip that is left out anywhere is left out by one of these; docs/your-own-videos.md says for each kind what to do.
"""

from __future__ import annotations

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


class Rejected(ValueError):  # noqa: N818  (no error of the program's)
    """A clip that cannot be used.

    Args:
        kind: one of ``KINDS``.
        reason: what is wrong with it, in one sentence without the clip's name.
    """

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
