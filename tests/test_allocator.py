"""What malloc does with freed memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Pages that the system has to clear for 64 MiB, after as much was freed.
CODE = """
import os, resource
from latentshift.cli.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory(os.environ)
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
@pytest.mark.parametrize(("settings", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_freed_memory_is_kept_unless_the_user_says_otherwise(settings: dict[str, str], kept: bool) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))}
    ended = subprocess.run([sys.executable, "-c", CODE], env=environ | settings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (int(ended.stdout) < 100) == kept
