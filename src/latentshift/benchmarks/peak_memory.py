"""The most memory that this process has had since a moment: of its GPU, or, on Linux, of the process itself."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def can_measure_peak(device: torch.device) -> bool:
    """Whether :func:`peak` knows; on the CPU Linux alone tells."""
    return device.type == "cuda" or (_PROCESS / "clear_refs").exists()


def check_peak(device: torch.device) -> None:
    """Refuse a device whose peak nobody tells.

    Raises:
        ValueError: for the CPU, but on Linux.
    """
    if not can_measure_peak(device):
        raise ValueError("the memory of a process on the CPU is measured on Linux alone")


def forget_peak(device: torch.device) -> None:
    """Start anew from what there is now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(AttributeError):  # a C library other than glibc
            ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system, and does not count
        (_PROCESS / "clear_refs").write_text("5")  # proc(5): the peak starts again from what there is


def peak(device: torch.device) -> int:
    """Bytes at the peak since :func:`forget_peak`."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
