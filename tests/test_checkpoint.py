"""Checkpoints: what is written comes back, and whatever is not what was written is named."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentshift.training.checkpoints import checkpoint as checkpoint_module
from latentshift.training.checkpoints.checkpoint import (
    drop_checkpoints,
    load_checkpoint,
    load_newest_checkpoint,
    quarantine_after,
    save_checkpoint,
)
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints


def save(folder: Path, step: int) -> Path:
    tensors = {"weights": {"w": torch.full((20,), float(step))}, "optimizer": {"0.exp_avg": torch.zeros(3)}}
    return save_checkpoint(folder, step, tensors, {"note": step})


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / ".0123.part").mkdir()  # a save that was killed
    drop_checkpoints(tmp_path, keep=1, always=(2, None))
    kept = list_checkpoints(tmp_path)
    assert [checkpoint_step(path) for path in kept] == [2, 3] and len(list(tmp_path.iterdir())) == 2
    newest = load_checkpoint(kept[-1])
    assert newest.step == 3 and newest.values == {"note": 3} and newest.tensors["weights"]["w"].tolist() == [3.0] * 20


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two checkpoints, the second to be damaged."""
    for step in (1, 2):
        save(tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


def damaged(folder: Path) -> Iterator[str]:
    """The second checkpoint truncated at 200 places, then with a bit flipped at 200 others, one after the other."""
    rng = np.random.default_rng(0)
    files = sorted((folder / "step-00000002").iterdir())
    assert [path.name for path in files] == [
        "manifest.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    for number in range(400):
        file = files[number % len(files)]
        right = file.read_bytes()
        place = int(rng.integers(len(right)))
        flipped = bytes([right[place] ^ (1 << int(rng.integers(8)))])
        file.write_bytes(right[:place] if number < 200 else right[:place] + flipped + right[place + 1 :])
        yield f"{file.name} at {place} of {len(right)}"
        file.write_bytes(right)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_loaded(pair: Path) -> None:
    for damage in damaged(pair):
        checkpoint, complaints = load_newest_checkpoint(pair)
        assert checkpoint is not None and checkpoint.step == 1, damage
        assert len(complaints) == 1 and "step-00000002 is damaged" in complaints[0], damage
    assert load_newest_checkpoint(pair)[0].step == 2
    for name in ("weights.safetensors", "manifest.json"):
        (pair / "step-00000001" / name).unlink()
        (pair / "step-00000002" / name).unlink()
        checkpoint, complaints = load_newest_checkpoint(pair)
        assert checkpoint is None and len(complaints) == 2


def test_a_failing_disk_is_reported_and_older_checkpoints_stay(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for module, name in ((os, "fsync"), (checkpoint_module, "save_file"), (Path, "write_text"), (os, "replace")):
        with monkeypatch.context() as failing:
            failing.setattr(module, name, fail)
            with pytest.raises(OSError, match=r"step 3 can't be written .*Input/output.* resumes from .*step-00000002"):
                save(pair, 3)
            assert [path.name for path in sorted(pair.iterdir())] == ["step-00000001", "step-00000002"]
            with pytest.raises(OSError, match="starts over"):
                save(pair.with_name("empty"), 3)


def test_a_disk_that_fails_to_be_read_is_named_and_the_one_before_is_loaded(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says "Input/output error" of one file of the newest checkpoint, when it is opened or read."""
    for name in ("weights.safetensors", "state.json", "manifest.json"):
        damaged = pair / "step-00000002" / name

        def fail(path: object, *args: Any, damaged: Path = damaged, opened: Any = io.open, **options: Any) -> Any:
            if path == damaged:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return opened(path, *args, **options)

        with monkeypatch.context() as failing:
            failing.setattr(io, "open", fail)  # which pathlib opens files with
            checkpoint, complaints = load_newest_checkpoint(pair)
        assert checkpoint is not None and checkpoint.step == 1
        assert len(complaints) == 1 and "Input/output error" in complaints[0]


def test_what_is_damaged_does_not_count_as_kept(pair: Path) -> None:
    (pair / "step-00000002" / "state.json").write_text("{}")
    checkpoint, _ = load_newest_checkpoint(pair)
    quarantine_after(pair, after=checkpoint.step)
    save(pair, 2)
    save(pair, 3)
    drop_checkpoints(pair, keep=2)
    assert [path.name for path in sorted(pair.iterdir())] == ["damaged-step-00000002", "step-00000002", "step-00000003"]
    assert load_newest_checkpoint(pair)[0].step == 3


def test_what_is_deleted_is_never_there_in_part(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)  # killed before the first file of it is gone
    drop_checkpoints(pair, keep=1)
    assert [path.name for path in list_checkpoints(pair)] == ["step-00000002"]
    monkeypatch.undo()
    drop_checkpoints(pair, keep=1)
    assert [path.name for path in pair.iterdir()] == ["step-00000002"]


def test_a_full_disk_is_reported_and_older_checkpoints_stay(tmp_path: Path) -> None:
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("a small file system can't be mounted here")
    try:
        save(tmp_path / "checkpoints", 1)
        with pytest.raises(OSError, match=r"can't be written .*(No space left|os error 28).*make room there"):
            save_checkpoint(tmp_path / "checkpoints", 2, {"weights": {"w": torch.zeros(200_000)}}, {})
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
        assert load_newest_checkpoint(tmp_path / "checkpoints")[0].step == 1
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)  # whatever a failure still holds open
