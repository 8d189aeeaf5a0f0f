"""The command that is running, for the reports that it writes."""

from __future__ import annotations

import shlex
import sys


def own_command(dtype: str | None = None) -> str:
    """The command that is running, as typed, but with the name of the dtype that ``--dtype auto`` came to.

    Args:
        dtype: its name; None for a command without ``--dtype``.
    """
    words = sys.argv[1:]
    if dtype is None:
        return shlex.join(["latentshift", *words])
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if "--dtype" not in (before, word) and not word.startswith("--dtype=")
    ]
    return shlex.join(["latentshift", *kept, "--dtype", dtype])
