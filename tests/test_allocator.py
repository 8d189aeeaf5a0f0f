"""What malloc does with freed memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from latentshift.cli.allocator import set_thresholds

# MiB that stay in the process of 24 that were freed; every glibc allows to keep such a block.
CODE = """
import os
from latentshift.cli.allocator import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

keep_freed_memory(os.environ)
before = resident()
block = b"x" * (24 * 2**20)
assert resident() - before >= 23
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
@pytest.mark.parametrize(("settings", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_freed_memory_is_kept_unless_the_user_says_otherwise(settings: dict[str, str], kept: bool) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))}
    ended = subprocess.run([sys.executable, "-c", CODE], env=environ | settings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (int(ended.stdout) >= 23) == kept


@pytest.mark.parametrize(("largest", "kept"), [(2**40, 2**30), (2**25, 2**25), (2**20, 0)])
def test_where_large_blocks_are_refused_smaller_ones_are_kept_or_nothing_is_changed(largest: int, kept: int) -> None:
    changed: dict[int, int] = {}

    def mallopt(setting: int, value: int) -> int:
        if setting == -3 and value > largest:
            return 0
        changed[setting] = value
        return 1

    assert set_thresholds(mallopt) == kept
    assert changed == ({-3: kept, -1: 2**30} if kept else {})
