"""Random numbers that are functions of a study's seed and of what they are for."""

from __future__ import annotations

import hashlib

PRIME = 2**31 - 1


def seeded(*parts: object) -> int:
    """A whole number from 1 to 2^31 - 2: the same for the same parts in every process and version of Python."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % (PRIME - 1)
