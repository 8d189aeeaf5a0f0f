"""The videos of a protocol, by index: which prompt and seed, or which file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A video to measure; its index is its place in the plan.

    Attributes:
        prompt: empty for none.
        seed: of the video that is to be made; None for a file.
        file: its name within the clips' folder; None for a video that is to be made.
        content: hash of the file's content, so that a replaced file is noticed.
    """

    prompt: str = ""
    seed: int | None = None
    file: str | None = None
    content: str | None = None

    @property
    def name(self) -> str:
        """For lists of what was rejected."""
        return self.file or f"{self.prompt} (seed {self.seed})"


def plan_digest(items: Sequence[Item]) -> str:
    """SHA-256 of a plan, for a result's settings."""
    digest = hashlib.sha256()
    for each in items:
        line = json.dumps([each.prompt, each.seed, each.file, each.content])  # in ASCII: a name need not be UTF-8
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
