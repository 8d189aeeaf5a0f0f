"""The memory of this machine. Imports no torch."""

from __future__ import annotations

from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container in which this process runs."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return total if limit == "max" else min(total, int(limit))


def available_memory() -> int:
    """Bytes of it that new processes can have, by what the system says, without driving out others."""
    import psutil

    return min(machine_memory(), int(psutil.virtual_memory().available))
