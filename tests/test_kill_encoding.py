"""``latentshift data encode``, killed at random moments of its work, ends as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from test_data_cli import add_clip
from waiting import PATIENCE, wait_for

KILLS = 20


def written(folder: Path) -> int:
    """Bytes of shards and journals, however far they have come."""
    total = 0
    for path in folder.glob("*shard-*") if folder.exists() else ():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed or deleted since
            continue
    return total


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path, model: Path) -> None:
    for number in range(60):
        add_clip(tmp_path / "clips", f"{number:02d}.mp4", f"a red star {number}", level=4 * number)
    (tmp_path / "clips" / "20.mp4").write_text("no video")
    words = ["data", "encode", "clips", "--seconds", "1", "--views", "3", "--clips-per-shard", "7", "--device", "cpu"]
    command = [sys.executable, "-m", "latentshift", *words, "--model", str(model), "-o"]

    def run(output: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, output], cwd=tmp_path, stdout=subprocess.DEVNULL)

    assert run("whole").wait(PATIENCE) == 0
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    share = written(tmp_path / "whole") / KILLS

    rng = np.random.default_rng(0)
    killed_at_work = 0
    for number in range(KILLS):
        before = written(tmp_path / "killed")
        process = run("killed")
        if number % 4:  # while it works; else while it starts
            wanted = before + share * float(rng.uniform(0, 1.2))
            wait_for(
                lambda process=process, wanted=wanted: (
                    process.poll() is not None or written(tmp_path / "killed") > wanted
                ),
                pause=0.001,
            )
        else:
            time.sleep(float(rng.uniform(0, 3)))
        killed_at_work += process.poll() is None and written(tmp_path / "killed") > before
        process.kill()
        process.wait()
    assert killed_at_work >= KILLS // 3
    assert run("killed").wait(PATIENCE) == 0
    ended = {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    assert {name: content for name, content in ended.items() if not name.endswith(".part")} == expected
