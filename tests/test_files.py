"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentshift.files import atomic_write, atomic_write_text, check_writable, check_writable_file


def test_a_file_takes_its_place_when_it_is_done(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("one")
        assert not target.exists() and temporary.parent == target.parent
    atomic_write_text(target, "zwei é")
    assert target.read_text(encoding="utf-8") == "zwei é" and list(target.parent.iterdir()) == [target]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("one", "two"):
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in target.iterdir()] == ["two"] and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_that_a_library_made_for_its_owner_alone_is_as_others_are(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "model") as temporary:
            temporary.mkdir()
            save_file({"a": torch.zeros(1)}, temporary / "weights.safetensors")
            (temporary / "config.json").touch()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()}
    assert modes == dict.fromkeys(("weights.safetensors", "config.json"), 0o666 & ~mask)


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "one.mp4").touch()
    with pytest.raises(IsADirectoryError, match="clips is an existing folder: name a file"):
        atomic_write_text(tmp_path / "clips", "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["clips", "one.mp4"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_what_was_there_and_no_new_parents(tmp_path: Path, folder: bool) -> None:
    def fail(target: Path) -> None:
        with atomic_write(target) as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "half").touch()
            else:
                temporary.write_text("half")
            raise KeyboardInterrupt

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept").touch()
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "old")
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "a" / "b" / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "old"]


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (Path("."), tmp_path):
        with (
            pytest.raises(ValueError, match="is the folder you are in, or holds it"),
            atomic_write(target) as temporary,
        ):
            temporary.mkdir()
    assert list(tmp_path.iterdir()) == [tmp_path / "here"] and not list(Path(".").iterdir())


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "kept").touch()
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "model"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_a_folder_that_takes_no_files_is_refused_early_whatever_its_permissions_say() -> None:
    with pytest.raises(PermissionError, match="/proc is not writable"):
        check_writable(Path("/proc/video.mp4"))


def test_a_folder_in_the_place_of_a_file_is_refused_early(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable_file(tmp_path / "new" / "file")
    with pytest.raises(IsADirectoryError, match="is an existing folder: name a file"):
        check_writable_file(tmp_path)


def test_checking_a_place_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "new")
    assert list(tmp_path.iterdir()) == []
