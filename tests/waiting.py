"""Waiting for what another process does, which must not take forever."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 300.0  # seconds for what takes a few, on a machine that does much other work too


def wait_for(
    holds: Callable[[], bool], last_words: Callable[[], object] = str, seconds: float = PATIENCE, pause: float = 0.01
) -> None:
    """Until it holds; if it does not in that time, the test fails with these last words."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"nothing after {seconds:g} s: {last_words()}"
        time.sleep(pause)
