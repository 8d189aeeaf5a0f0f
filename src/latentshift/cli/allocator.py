"""What glibc's malloc does with the memory that large tensors leave."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT, _LARGEST_OF_OLD_GLIBC = 2**30, 2**25
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(environ: Mapping[str, str]) -> None:
    """Let malloc keep up to 1 GiB of what was freed for the next tensors.

    By default it gives blocks of 32 MiB and more, and free memory at the heap's end, back to the system at once, which
    then clears page after page for the next ones. A glibc that allows no more keeps blocks of up to 32 MiB. Other
    allocators and systems are left as they are.

    Args:
        environ: of this process; where it has settings of glibc's malloc, nothing is changed.
    """
    if not sys.platform.startswith("linux") or any(name in environ for name in _SETTINGS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        set_thresholds(mallopt)


def set_thresholds(mallopt: Callable[[int, int], int]) -> int:
    """Set the size of blocks that are kept, and how much is.

    Args:
        mallopt: (setting, value) -> 0 where the value is refused.

    Returns:
        The size of the largest blocks that are kept, in bytes; 0 if nothing was changed.
    """
    for size in (_KEPT, _LARGEST_OF_OLD_GLIBC):
        if mallopt(_MMAP_THRESHOLD, size):
            mallopt(_TRIM_THRESHOLD, _KEPT)
            return size
    return 0
