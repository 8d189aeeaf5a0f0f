"""Importing large libraries without Python's cyclic garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Inside, the collector does not run; afterwards it does, if it did before.

    An import makes hundreds of thousands of objects that stay. To look for garbage among them again and again takes a
    quarter of the time of importing diffusers.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
