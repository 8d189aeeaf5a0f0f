"""What glibc's malloc does with the memory that large tensors leave."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT = 2**30
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(environ: Mapping[str, str]) -> None:
    """Let malloc keep up to 1 GiB of what was freed for the next tensors.

    By default it gives blocks of 32 MiB and more, and free memory at the heap's end, back to the system at once, which
    then clears page after page for the next ones. Other allocators and systems are left as they are.

    Args:
        environ: of this process; where it has settings of glibc's malloc, nothing is changed.
    """
    if not sys.platform.startswith("linux") or any(name in environ for name in _SETTINGS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
