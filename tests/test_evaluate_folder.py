"""``latentshift evaluate folder`` on clips of another system, as a user meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from latentshift.data.rejected import Rejected
from latentshift.evaluation.extractors import cache
from latentshift.evaluation.protocols.clip_files import FrameChoice, list_clips
from latentshift.evaluation.report.schema import read_report
from latentshift.video import read_video, write_video
from tiny_extractors import add_tiny_extractors

PROMPTS = ["a red star", "a star", "red", "the sea at night"]
FRAMES = 16


def clip(seed: int, frames: int = FRAMES, side: int = 16) -> np.ndarray:
    """Noise that gets brighter, uint8 (frames, side, side, 3)."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(20, 120, (1, side, side, 3)) + np.linspace(0, 9 * seed, frames)[:, None, None, None]
    return levels.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def extractors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with tiny extractors in it."""
    folder = tmp_path_factory.mktemp("extractors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(folder / "cache"))
        add_tiny_extractors(folder / "files")
    return folder / "cache"


@pytest.fixture(autouse=True)
def _cached(extractors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(extractors))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips named by their prompts in different ways, one that can't be read, and one that is too short."""
    folder = tmp_path / "clips"
    write_video(folder / "A red star_7.webp", clip(1))
    write_video(folder / "deep" / "a-star.mp4", clip(2))
    write_video(folder / "red", clip(3))  # a folder of frames
    write_video(folder / "0003.gif", clip(4), metadata={"prompt": PROMPTS[3]})
    write_video(folder / "short.mp4", clip(5, frames=7))
    (folder / "broken.mp4").write_bytes(b"no video at all")
    (folder / "readme.txt").write_text("not a clip")
    return folder


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    for number in range(3):
        write_video(tmp_path / "true" / f"{number}.webp", clip(10 + number, frames=20))
    return tmp_path / "true"


def test_clips_are_scored_with_captions_and_a_reference(cli, clips: Path, reference: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("\n".join([*PROMPTS[:3], PROMPTS[3], "nobody drew this"]) + "\n")
    words = ["evaluate", "folder", clips, "--reference", reference, "--captions", "captions.txt", "-o", "result"]
    code, printed, complained = cli(*words, "--device", "cpu", "--name", "CogVideo")
    assert code == 0, complained
    report = read_report(tmp_path / "result")
    values = {each.name: each for each in report.metrics}
    assert list(values) == ["FVD", "KVD", "CLIPSIM", "CMMD", "frame consistency", "amount of motion"]
    assert {each.n for each in report.metrics} == {4}
    assert values["FVD"].n_reference == 3 and values["FVD"].frames == FRAMES and values["FVD"].size == "16x16"
    assert any("not verified" in each for each in values["FVD"].warnings)
    assert any("features needs at least 401" in each for each in values["FVD"].warnings)
    assert report.system.name == "CogVideo" and report.system.kind == "clips"
    reasons = {each.file: each.reason for each in report.rejected}
    assert reasons["short.mp4"] == "it has 7 frames, and 16 are taken of each clip"
    assert "can't be decoded" in reasons["broken.mp4"]
    assert reasons["captions.txt line 5"] == "no clip is of it: nobody drew this"
    assert set(reasons) == {"short.mp4", "broken.mp4", "captions.txt line 5"}
    assert any("inception-2015 is not there" in each for each in report.notes)
    shown = [(each.prompt, each.file) for each in report.videos]
    assert {prompt for prompt, _ in shown} == set(PROMPTS)
    assert all(read_video(tmp_path / "result" / file)[0].shape == (16, 16, 16, 3) for _, file in shown)
    similarities = [each.values["CLIPSIM"] for each in report.videos]
    assert similarities == sorted(similarities, reverse=True)
    assert np.mean(similarities) == pytest.approx(values["CLIPSIM"].value)
    assert "CLIPSIM" in printed and "result/report.html" in printed and "rejected" in printed
    page = (tmp_path / "result" / "report.html").read_text()
    assert "CogVideo" in page and "short.mp4" in page and "<video" in page

    before = (tmp_path / "result" / "readings" / "worker-000.jsonl").read_bytes()
    assert cli(*words, "--device", "cpu", "--name", "CogVideo")[0] == 0  # nothing is measured twice
    assert (tmp_path / "result" / "readings" / "worker-000.jsonl").read_bytes() == before
    assert read_report(tmp_path / "result") == report

    code, _, complained = cli(*words, "--device", "cpu", "--frames", 12)
    assert code == 1 and "holds a result with other settings: " in complained


def test_other_sizes_of_true_clips_are_told(cli, clips: Path, tmp_path: Path) -> None:
    for number in range(2):
        write_video(tmp_path / "wide" / f"{number}.webp", clip(10 + number, side=32)[:, :16])
    words = ["evaluate", "folder", clips, "--reference", "wide", "--extractors", "i3d", "--device", "cpu"]
    for size, told in ((None, True), (16, False)):
        output = f"result-{size}"
        assert cli(*words, "-o", output, *([] if size is None else ["--size", size]))[0] == 0
        warnings = read_report(tmp_path / output).metric("FVD").warnings
        assert any("differ in size, 16x16 and 32x16" in each for each in warnings) == told


def test_a_killed_evaluation_ends_in_the_same_numbers(cli, clips: Path, reference: Path, tmp_path: Path) -> None:
    words = ["evaluate", "folder", clips, "--reference", reference, "--device", "cpu", "-o"]
    assert cli(*words, "whole")[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    (tmp_path / "killed" / "report.json").unlink()
    lines = (tmp_path / "killed" / "readings" / "worker-000.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed" / "readings" / "worker-000.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    (tmp_path / "killed" / "reference" / "worker-000.jsonl").unlink()
    (tmp_path / "killed" / "clips" / ".cut.part").write_bytes(b"half a clip")  # as a kill within a write leaves it
    assert cli(*words, "killed")[0] == 0
    assert not list((tmp_path / "killed" / "clips").glob(".*"))
    whole, killed = (read_report(tmp_path / each) for each in ("whole", "killed"))
    assert killed.metrics == whole.metrics and killed.videos == whole.videos and killed.rejected == whole.rejected
    assert [each.prompt for each in whole.videos if each.prompt] == [PROMPTS[3]]  # from the file's own metadata


def test_captions_of_a_csv(cli, clips: Path, tmp_path: Path) -> None:
    rows = [
        "file_name,text",
        '"A red star_7.webp",a red star',
        "deep/a-star.mp4,",
        "gone.mp4,red",
        "red,red",
        "red,star",
    ]
    (tmp_path / "captions.csv").write_text("\n".join(rows) + "\n")
    words = ["evaluate", "folder", clips, "--captions", "captions.csv", "--extractors", "clip", "--device", "cpu"]
    assert cli(*words, "-o", "result")[0] == 0
    report = read_report(tmp_path / "result")
    assert report.metric("CLIPSIM").n == 2 and "2 of 4 videos have no CLIPSIM." in report.metric("CLIPSIM").warnings
    assert report.metric("frame consistency").n == 4
    reasons = {each.file: each.reason for each in report.rejected}
    assert reasons["captions.csv line 3"] == "its text is empty"
    assert reasons["captions.csv line 4"] == "there is no clip gone.mp4"
    assert reasons["captions.csv line 6"] == "red has a caption already"
    assert "no caption in captions.csv is of it" in reasons["deep/a-star.mp4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["empty"], "the folder empty holds no clips"),
        (["clips", "--reference", "empty"], "the folder empty holds no clips"),
        (["clips", "--captions", "other.txt"], "none of the captions in other.txt is of a clip"),
        (["clips", "--captions", "missing.txt"], "there is no file missing.txt"),
        (["clips", "--frames", "0"], "--frames must be from 1 to 100,000, not 0"),
        (["clips", "--size", "3"], "--size must be from 8 to 4096"),
        (["clips", "--seconds", "0"], "--seconds must be a number above 0"),
        (["clips", "--extractors", "c3d", "--frames", "8"], "c3d reads clips of 16 frames, not 8"),
        (["clips", "--extractors", "inception-2015"], "the extractor inception-2015"),
        (["clips", "--extractors", "best"], "there is no extractor 'best'"),
        (["clips", "--extractors", "i3d:logits"], "gives features, not 'logits'"),
        (["clips", "--frames", "99", "--device", "cpu"], "none of the 6 videos of clips can be used; "),
        (
            ["clips", "--reference", "bad", "--device", "cpu"],
            "none of the 1 videos of bad can be used; no.mp4: it can't",
        ),
    ],
)
def test_a_mistake_is_one_sentence(cli, clips: Path, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "no.mp4").write_bytes(b"nothing")
    (tmp_path / "other.txt").write_text("something else\n")
    code, _, complained = cli("evaluate", "folder", *words, "-o", "result")
    assert code == 1 and said in complained
    assert complained.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "result" / "report.json").exists()


def test_frames_are_evenly_spaced_over_the_time() -> None:
    video = np.arange(32, dtype=np.uint8)[:, None, None, None] * np.ones((1, 12, 8, 3), np.uint8)
    assert FrameChoice(4).of(video, 8)[:, 0, 0, 0].tolist() == [0, 8, 16, 24]
    assert FrameChoice(4, seconds=2).of(video, 8)[:, 0, 0, 0].tolist() == [0, 4, 8, 12]
    assert FrameChoice(2, size=8).of(video, 8).shape == (2, 8, 8, 3)
    with pytest.raises(Rejected, match=r"lasts 4.00 s, and 5 s are taken"):
        FrameChoice(4, seconds=5).of(video, 8)
    with pytest.raises(Rejected, match=r"it has 32 frames, and 33 are taken"):
        FrameChoice(33).of(video, 8)


def test_a_replaced_file_is_noticed(clips: Path) -> None:
    before = {each.file: each.content for each in list_clips(clips)}
    assert set(before) == {"A red star_7.webp", "deep/a-star.mp4", "red", "0003.gif", "short.mp4", "broken.mp4"}
    write_video(clips / "deep" / "a-star.mp4", clip(6))
    after = {each.file: each.content for each in list_clips(clips)}
    assert {name for name in before if before[name] != after[name]} == {"deep/a-star.mp4"}


def test_a_report_is_json_that_others_read(cli, clips: Path, tmp_path: Path) -> None:
    assert cli("evaluate", "folder", clips, "--extractors", "clip", "--device", "cpu", "-o", "result")[0] == 0
    values = json.loads((tmp_path / "result" / "report.json").read_text())
    assert values["format"] == "latentshift-evaluation/1" and values["protocol"] == "folder"
    assert values["command"].startswith("latentshift evaluate folder ")
    assert values["settings"]["frames"] == 16 and values["settings"]["n"] == 4
