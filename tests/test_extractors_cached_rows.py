"""Features of true videos are computed once, and never out of date."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from latentshift.evaluation.extractors import cached_rows
from latentshift.evaluation.extractors.cached_rows import VARIABLE, CachedRows, with_cached_rows
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.video import pixels
from stand_in_extractors import StandIn, noise_video

CPU = torch.device("cpu")


class Counting(StandIn):
    """Counts what goes through its network."""

    def __init__(self) -> None:
        super().__init__("inception-2015", "frame", "features", 5)
        self.calls = 0

    def __call__(self, videos: torch.Tensor) -> np.ndarray:
        self.calls += len(videos)
        return super().__call__(videos)


def videos(*seeds: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([noise_video(seed) for seed in seeds]))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_rows_are_computed_once_and_are_the_same(tmp_path: Path) -> None:
    plain = Counting()
    expected = plain(videos(1, 2, 3))
    first = CachedRows(plain, tmp_path, CPU)
    assert first(videos(1, 2, 3)).tobytes() == expected.tobytes() and plain.calls == 6
    assert first.width == 5 and first.sha256 == plain.sha256
    other = Counting()
    assert CachedRows(other, tmp_path, CPU)(videos(3, 1)).tobytes() == expected[[2, 0]].tobytes()
    assert other.calls == 0 and len(files(tmp_path)) == 3
    changed = videos(1)
    changed[0, 0, 0, 0, 0] ^= 1  # another video, by one bit
    CachedRows(other, tmp_path, CPU)(changed)
    assert other.calls == 1


def test_nothing_of_another_network_version_or_device_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CachedRows(Counting(), tmp_path, CPU)(videos(1))
    other = Counting()
    other.sha256 = "1" * 64
    CachedRows(other, tmp_path, CPU)(videos(1))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    threaded = Counting()
    CachedRows(threaded, tmp_path, CPU)(videos(1))
    torch.set_num_threads(threads)
    monkeypatch.setattr(cached_rows, "_code", lambda: "changed")
    changed = Counting()
    CachedRows(changed, tmp_path, CPU)(videos(1))
    monkeypatch.setattr(cached_rows, "_versions", lambda: ("99",))
    newer = Counting()
    CachedRows(newer, tmp_path, CPU)(videos(1))
    assert (other.calls, threaded.calls, changed.calls, newer.calls) == (1, 1, 1, 1) and len(files(tmp_path)) == 5


def test_the_code_of_the_pixels_conversion_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cached_rows._code.__wrapped__()
    copy = tmp_path / "pixels.py"
    copy.write_bytes(Path(pixels.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(pixels, "__file__", str(copy))
    assert cached_rows._code.__wrapped__() != before


def twice(content: bytes) -> bytes:
    """A sound file of twice as many rows."""
    rows = 2 * content[32:]
    return hashlib.sha256(rows).digest() + rows


@pytest.mark.parametrize(
    "damage", [lambda each: each[:-4], lambda each: each[:40] + b"\1" + each[41:], lambda _: b"", twice]
)
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage) -> None:
    expected = CachedRows(Counting(), tmp_path, CPU)(videos(1))
    (path,) = files(tmp_path)
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    again = Counting()
    assert CachedRows(again, tmp_path, CPU)(videos(1)).tobytes() == expected.tobytes()
    assert again.calls == 1 and path.read_bytes() == sound


def test_writers_at_once_leave_whole_files(tmp_path: Path) -> None:
    expected = Counting()(videos(*range(12)))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: CachedRows(Counting(), tmp_path, CPU)(videos(*range(12))), range(16)))
    assert all(each.tobytes() == expected.tobytes() for each in made)
    assert len(files(tmp_path)) == 12  # and nothing half-written
    later = Counting()
    CachedRows(later, tmp_path, CPU)(videos(*range(12)))
    assert later.calls == 0


def test_a_folder_that_can_not_be_written_to_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    expected = Counting()(videos(1))
    assert CachedRows(Counting(), tmp_path / "file", CPU)(videos(1)).tobytes() == expected.tobytes()
    monkeypatch.setenv(VARIABLE, "")
    plain = {"a": load_extractor("sprites-frames")}
    assert with_cached_rows(plain) == plain


def test_a_shipped_extractor_gives_the_same_rows_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, os.fspath(tmp_path))
    plain = load_extractor("sprites-frames")
    video = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 16, 64, 64, 3), dtype=np.uint8))
    for _ in range(2):
        cached = with_cached_rows({"sprites-frames": plain})["sprites-frames"]
        assert cached(video).tobytes() == plain(video).tobytes()
    assert len(files(tmp_path)) == 2
