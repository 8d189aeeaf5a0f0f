"""Five hundred damaged files: no run dies of them, none is missing from the report, and it says the same each time."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.inspection.examine import ClipInfo
from latentshift.data.inspection.inspect import Inspection, inspect_rows
from latentshift.data.manifest import Manifest, Row, write_manifest
from latentshift.data.rejected import Rejected
from latentshift.data.rejected_list import RejectedList
from latentshift.data.worker_pool import WorkerLimits
from latentshift.video.pixels import accurate_interpolation

WINDOW, FRAMING = Window(frames=4, seconds=1.0, place="centre"), Framing(32, 32)


def video(folder: Path, suffix: str, **options: str) -> bytes:
    """A second and a half of a square that moves, with noise."""
    rng = np.random.default_rng(0)
    path = folder / f"made.{suffix}"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "10"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(45):
            picture = rng.integers(60, 90, size=(64, 64, 3), dtype=np.uint8)
            picture[20:40, number : number + 20] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    path.unlink()
    return content


def sound() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype=np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def endless(content: bytes, ticks: int) -> bytes:
    """The header of the movie, its track and its media claim another length."""
    changed = bytearray(content)
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        place = changed.find(box) + offset
        changed[place : place + 4] = ticks.to_bytes(4, "big")
    return bytes(changed)


def damaged(folder: Path) -> dict[str, bytes]:
    """Name -> content, 500 of them."""
    whole = {
        "mp4": video(folder, "mp4"),
        "fast": video(folder, "mp4", movflags="faststart"),
        "mkv": video(folder, "mkv"),
    }
    files: dict[str, bytes] = {}
    for kind, content in whole.items():
        for cut in np.linspace(1, len(content) - 1, 70).astype(int):
            files[f"cut-{kind}-{cut}.{'mkv' if kind == 'mkv' else 'mp4'}"] = content[:cut]
        for seed in range(50):
            rng = np.random.default_rng(seed)
            flipped = bytearray(content)
            for place in rng.integers(len(content), size=2 ** int(rng.integers(8))):
                flipped[place] ^= int(rng.integers(1, 256))
            files[f"flipped-{kind}-{seed}.{'mkv' if kind == 'mkv' else 'mp4'}"] = bytes(flipped)
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "png")
    for number in range(10):
        files[f"picture-{number}.mp4"] = picture.getvalue() + bytes(number)
        files[f"video-{number}.png"] = whole["mp4"] + bytes(number)
        files[f"mkv-{number}.avi"] = whole["mkv"] + bytes(number)
        files[f"nothing-{number}.mp4"] = b""
        files[f"nothing-{number}.png"] = b""
        files[f"zeros-{number}.mkv"] = bytes(1000 * (number + 1))
        files[f"sound-{number}.mp4"] = sound() + bytes(number)
    for number in range(30):
        files[f"endless-{number}.mp4"] = endless(whole["mp4"], 2**32 - 1 - number)
        files[f"text-{number}.mp4"] = ("word " * (number + 1)).encode()
    for number in range(10):
        files[f"page-{number}.webm"] = b"<!doctype html><title>404</title>" * (number + 1)
    return files


def report(folder: Path, names: list[str], workers: int) -> dict[str, ClipInfo | Rejected]:
    manifest = folder.parent / f"manifest-{workers}.jsonl"
    write_manifest(manifest, (Row(str(folder / name), ("a clip",), "test") for name in names), print)
    (left_out := folder.parent / f"left-out-{workers}.jsonl").unlink(missing_ok=True)
    rejected = RejectedList(left_out)
    inspection, results = Inspection(rejected), {}
    for finding in inspect_rows(Manifest(manifest), WINDOW, FRAMING, WorkerLimits(workers), pictures=len(names)):
        inspection.add(finding)
        results[Path(finding.row.file).name] = finding.result
    assert inspection.total == len(names) and len(rejected) == inspection.total - inspection.kept
    return results


def decoded_from_the_start(path: Path) -> np.ndarray:
    """All frames up to the first error, at the size of the report's: shape (F, 32, 32, 3)."""
    frames = []
    with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
        for frame in container.decode(video=0):
            if frame.is_corrupt:
                break
            frames.append(frame.to_ndarray(format="rgb24", width=32, height=32, interpolation=accurate_interpolation()))
    return np.stack(frames)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "files"
    folder.mkdir()
    for name, content in damaged(folder).items():
        (folder / name).write_bytes(content)
    (folder / "whole.mp4").write_bytes(video(folder, "mp4"))
    return folder


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_five_hundred_damaged_files(every: int, folder: Path) -> None:
    """All of them, or every third one of each kind."""
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 501
    names = sorted({*names[::every], "whole.mp4"})
    given = Counter(name.split("-")[0] for name in names)
    results = report(folder, names, workers=2)
    assert list(results) == names
    reasons = {name: str(each) if isinstance(each, Rejected) else "" for name, each in results.items()}
    whole = results["whole.mp4"]
    assert isinstance(whole, ClipInfo)
    kept = [name for name, reason in reasons.items() if not reason]
    counts = Counter(name.split("-")[0] for name in kept)
    # Every one that can't be used is refused. What is kept of cut and mislabelled files is what the whole one holds.
    assert not set(counts) - {"whole.mp4", "cut", "flipped", "mkv", "endless"}
    for name in kept:
        facts = results[name]
        assert isinstance(facts, ClipInfo) and facts.frames.shape == (4, 32, 32, 3)
        if not name.startswith("flipped"):
            assert whole.seconds - facts.seconds < 0.25, name
        if name.startswith("flipped"):
            shown = decoded_from_the_start(folder / name)
            for picture in facts.frames:
                apart = np.abs(shown.astype(int) - picture).mean(axis=(1, 2, 3)).min()
                assert apart < 3, name  # a frame that a decoder from the beginning shows too, without an error
        if name.startswith(("mkv", "endless")):
            apart = np.abs(facts.frames.astype(int) - whole.frames).mean()
            assert apart < 3, name  # the same frames, or of two at the same moment the neighbour
    for kind in ("mkv", "endless"):  # nothing is wrong with their frames
        assert counts[kind] == given[kind] > 0
    # An mp4 that ends before its index does can't be read at all; how much else can be is the decoder's affair.
    content = (folder / "whole.mp4").read_bytes()
    index = content.index(b"moov")
    headless = [name for name in names if name.startswith("cut-mp4") and int(name.split("-")[2][:-4]) <= index]
    assert len(headless) > 50 // every and not set(headless) & set(kept)
    assert counts["flipped"] < given["flipped"] / 2
    assert not any("Traceback" in reason or "\n" in reason for reason in reasons.values())


def test_the_report_is_the_same_on_every_run(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())[::9]
    first, second = (
        {
            name: str(each) if isinstance(each, Rejected) else each.digest
            for name, each in report(folder, names, n).items()
        }
        for n in (1, 3)
    )
    assert first == second
