"""The paper's protocols on small stand-ins in the true layouts: by one process and several, killed and resumed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from latentshift.evaluation.extractors import cache
from latentshift.evaluation.protocols.paper_prompts import msrvtt_plan, ucf101_plan
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
from latentshift.evaluation.report.schema import Report, read_report
from latentshift.models import precision
from latentshift.video import read_metadata, read_video
from launch import Processes, command_line, wait_until
from timed_video import write_video_at
from tiny_extractors import CMMD, add_tiny_extractors

CAPTIONS = ["a red star", "a star on black", "red on black", "a red background", "star circling", "red star"]
CLASSES = {"Archery": 3, "Biking": 1}


def footage(path: Path, level: int) -> None:
    """A square that moves over gray for 2.2 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for number in range(18):
        picture = np.full((24, 32, 3), level, dtype=np.uint8)
        picture[4:12, number : number + 8] = (255 - level, 90, 40)
        frames.append(picture)
    write_video_at(path, np.arange(18) * 2.2 / 18, frames)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MSR-VTT with three test videos of two captions each, one of them missing; UCF-101 with two classes."""
    folder = tmp_path_factory.mktemp("data")
    videos = [{"video_id": f"video{number}", "split": "test" if number else "train"} for number in range(4)]
    sentences = [
        {"sen_id": number, "video_id": f"video{1 + number // 2}", "caption": caption}
        for number, caption in enumerate(CAPTIONS)
    ]
    sentences.append({"sen_id": 6, "video_id": "video0", "caption": "of the training split"})
    sentences.append({"sen_id": 7, "video_id": "video1", "caption": " "})
    (folder / "msrvtt").mkdir()
    (folder / "msrvtt" / "videodatainfo.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    for number in (1, 2):
        footage(folder / "msrvtt" / f"video{number}.mp4", 40 * number)
    lists = folder / "ucf" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    train = [f"{name}/v_{name}_g{number}.avi" for name, count in CLASSES.items() for number in range(count)]
    (lists / "trainlist01.txt").write_text("".join(f"{each} 1\n" for each in train))
    (lists / "testlist01.txt").write_text("")
    for number, each in enumerate(train):
        footage(folder / "ucf" / each, 30 * number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(folder / "cache"))
        add_tiny_extractors(folder / "files")
    return folder


@pytest.fixture(autouse=True)
def _cached(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(data / "cache"))


def msrvtt_words(data: Path, model: Path, *more: object) -> list[str]:
    words = ["evaluate", "msrvtt", data / "msrvtt" / "videodatainfo.json", "--model", model, "--steps", 2]
    return [str(each) for each in [*words, "--extractors", "clip", "--device", "cpu", *more]]


@pytest.fixture(scope="session")
def whole(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MSR-VTT by one process from beginning to end."""
    folder = tmp_path_factory.mktemp("whole") / "result"
    with Processes(in_cache, str(data / "cache"), *msrvtt_words(data, model, "-o", folder)) as run:
        assert run.ended() == [0], run.last_words()
    return folder


def in_cache(folder: str, *words: str) -> None:
    """``latentshift`` in another process, with the cache of extractors there."""
    import os

    os.environ[cache.VARIABLE] = folder
    command_line(*words)


def held_after_two(sign: Path, folder: str, *words: str) -> None:
    """The same, held before another video's reading is written when there are two."""
    append = ReadingsWriter.append

    def append_or_wait(self: ReadingsWriter, reading: Reading, rows: Mapping[str, np.ndarray]) -> None:
        if done(Path(words[-1])) >= 2:
            sign.touch()
            time.sleep(600)
        append(self, reading, rows)

    ReadingsWriter.append = append_or_wait
    in_cache(folder, *words)


def numbers(report: Report) -> object:
    return report.metrics, report.videos, report.rejected, report.notes


def test_msrvtt(whole: Path) -> None:
    report = read_report(whole)
    values = {each.name: each for each in report.metrics}
    assert list(values) == ["CLIPSIM", CMMD, "frame consistency", "amount of motion"]
    assert values["CLIPSIM"].n == len(CAPTIONS) and values[CMMD].n_reference == 2
    assert values["CLIPSIM"].frames == 4 and values["CLIPSIM"].size == "16x16"
    reasons = {Path(each.file).name: each.reason for each in report.rejected}
    assert reasons["video3.mp4"] == "there is no such file"
    assert any("has no words" in each for each in reasons.values())
    assert report.system.kind == "video" and report.system.contents
    of_number = {
        name
        for name, each in values.items()
        if "the papers' number with all captions is 59,794" in " ".join(each.warnings)
    }
    assert of_number == {CMMD}  # the one that is biased by the number
    assert any("names 3 videos with a caption; the official one has 2,990" in each for each in report.notes)
    assert {each.prompt for each in report.videos} == set(CAPTIONS)
    for each in report.videos:
        assert read_video(whole / each.file)[0].shape == (4, 16, 16, 3)
        assert read_metadata(whole / each.file)["seed"] == each.seed == CAPTIONS.index(each.prompt)
    assert report.settings["steps"] == 2 and report.settings["guidance"] == 7.5


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_by_any_number_of_processes(
    data: Path, model: Path, whole: Path, tmp_path: Path, processes: int
) -> None:
    words, sign = msrvtt_words(data, model, "-o", tmp_path / "result"), tmp_path / "held"
    with Processes(held_after_two, sign, str(data / "cache"), *words, processes=processes) as run:
        wait_until(run, sign.exists)
        run.kill()
    assert 2 <= done(tmp_path / "result") < len(CAPTIONS)
    (tmp_path / "result" / "clips" / ".cut.part").write_bytes(b"half a clip")  # as a kill within a write leaves it
    with Processes(in_cache, str(data / "cache"), *words, processes=3 - processes) as run:
        assert set(run.ended()) == {0}, run.last_words()
    assert numbers(read_report(tmp_path / "result")) == numbers(read_report(whole))
    assert {path.name for path in (tmp_path / "result" / "clips").iterdir()} == {
        path.name for path in (whole / "clips").iterdir()
    }


def done(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "readings").glob("*.jsonl"))


@pytest.mark.slow
def test_ray_gives_the_same_numbers(cli, data: Path, model: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.float16)  # of this machine, not of the actors'
    code, _, complained = cli(*msrvtt_words(data, model, "-o", "result", "--engine", "ray", "--actors", 2))
    assert code == 0, complained
    report = read_report(Path("result"))
    assert numbers(report) == numbers(read_report(whole))
    assert report.settings["dtype"] == read_report(whole).settings["dtype"] != "float16"
    assert report.command.endswith(f" --dtype {report.settings['dtype']}")
    assert len(list(Path("result/readings").glob("*.jsonl"))) == 2


def test_kept_videos_are_not_made_again(cli, data: Path, model: Path, whole: Path) -> None:
    words = msrvtt_words(data, model, "--keep", "all", "-o", "result")
    assert cli(*words)[0] == 0
    first = read_report(Path("result"))
    assert first.metrics == read_report(whole).metrics
    clips = sorted(Path("result/clips").iterdir())
    assert len(clips) == len(CAPTIONS) and {each.suffix for each in clips} == {".webp"}
    stamps = [each.stat().st_mtime_ns for each in clips]
    clips[0].write_bytes(b"cut short")
    for each in Path("result/readings").iterdir():
        each.unlink()
    assert cli(*words)[0] == 0
    assert read_report(Path("result")).metrics == first.metrics
    again = [each.stat().st_mtime_ns for each in clips]
    assert again[0] != stamps[0] and read_metadata(clips[0])["prompt"] in CAPTIONS


@pytest.mark.parametrize(("system", "kind"), [("frozen", "frozen images"), ("images", "images")])
def test_images_as_videos(cli, data: Path, model: Path, whole: Path, system: str, kind: str) -> None:
    words = msrvtt_words(data, model, "--system", system, "--captions", "one", "--keep", "none", "-o", "result")
    assert cli(*words)[0] == 0
    report = read_report(Path("result"))
    assert report.system.kind == kind and report.metric("CLIPSIM").n == 3
    motion = report.metric("amount of motion").value
    assert motion == 0 if system == "frozen" else motion > 0
    assert (report.settings["shift"] is None) == (system == "images")
    assert all(each.file is None for each in report.videos)


def test_ucf101_killed_and_resumed(cli, data: Path, model: Path, tmp_path: Path) -> None:
    words = ["evaluate", "ucf101", data / "ucf", "--model", model, "--steps", 2, "--frames", 16, "--device", "cpu"]
    words += ["--videos", 3, "--repeats", 2, "--seconds", 1.5, "-o"]
    sign = tmp_path / "held"
    with Processes(held_after_two, sign, str(data / "cache"), *map(str, words), str(tmp_path / "killed")) as run:
        wait_until(run, sign.exists)
        run.kill()
    assert done(tmp_path / "killed") == 2
    assert cli(*words, tmp_path / "killed")[0] == 0
    code, printed, complained = cli(*words, "result")
    assert code == 0, complained
    report = read_report(Path("result"))
    assert numbers(read_report(tmp_path / "killed")) == numbers(report)
    assert [each.name for each in report.metrics] == ["FVD", "KVD", "C3D-IS", "amount of motion"]
    fvd = report.metric("FVD")
    assert (fvd.n, fvd.n_reference, fvd.frames, fvd.repeats) == (6, 4, 16, 2) and "mean over repeats" in fvd.variant
    score = report.metric("C3D-IS")
    assert score.repeats == 2 and score.deviation is not None
    assert any("a repeat has 3 samples for 101 classes: no score above 3" in each for each in score.warnings)
    assert "N = 2 × 3" in Path("result/report.md").read_text() and "n 2 × 3" in printed
    assert fvd.interval_kind == "Student's t over repeats"
    of_number = {each.name for each in report.metrics if "10 times 2,048 or 4 times 10,000" in " ".join(each.warnings)}
    assert of_number == {"FVD", "C3D-IS"}
    assert "2 times 3 videos are made" in complained and "C3D-IS" in printed


def test_true_videos_are_not_read_where_nothing_is_compared_with_them(cli, data: Path, model: Path) -> None:
    words = ["evaluate", "ucf101", data / "ucf", "--model", model, "--steps", 2, "--frames", 16, "--device", "cpu"]
    more = ["--videos", 1, "--repeats", 2, "--seconds", 1000, "--extractors", "c3d", "--keep", "none"]
    code, _, complained = cli(*words, *more, "-o", "result")  # no true video is so long
    assert code == 0, complained
    assert [each.name for each in read_report(Path("result")).metrics] == ["C3D-IS", "amount of motion"]
    assert not Path("result/reference").exists()


def test_classes_are_drawn_as_often_as_in_the_training_list(data: Path) -> None:
    plan = ucf101_plan(data / "ucf", None, 1, None, 4000, 2, 0)
    drawn = Counter(each.prompt for each in plan.items[:4000])
    assert drawn["a person is shooting arrows with a bow"] == pytest.approx(3000, abs=5 * 27)
    assert drawn.total() == 4000 and len(drawn) == 2
    assert [each.prompt for each in plan.items[:4000]] != [each.prompt for each in plan.items[4000:]]
    assert len({each.seed for each in plan.items}) == 8000
    assert ucf101_plan(data / "ucf", None, 1, None, 4000, 2, 0).items == plan.items


def test_fewer_videos_are_some_of_the_whole(data: Path) -> None:
    """With the same seeds, so that a larger evaluation makes the very same ones."""
    annotations = data / "msrvtt" / "videodatainfo.json"
    everything = msrvtt_plan(annotations, None, "all", None, 5)
    assert [(each.prompt, each.seed) for each in everything.items] == [
        (caption, 5 + number) for number, caption in enumerate(CAPTIONS)
    ]
    some = msrvtt_plan(annotations, None, "all", 4, 5)
    assert len(some.items) == 4 and set(some.items) < set(everything.items)
    assert len(msrvtt_plan(annotations, None, "one", None, 5).items) == 3
    with pytest.raises(ValueError, match="--videos must be from 1 to 6"):
        msrvtt_plan(annotations, None, "all", 7, 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["msrvtt", "nowhere.json"], "cannot read nowhere.json"),
        (["msrvtt", "{data}/ucf/ucfTrainTestlist/trainlist01.txt"], "is no JSON"),
        (["msrvtt", "x.json", "--captions", "some"], "--captions must be one of all, one"),
        (["msrvtt", "x.json", "--system", "gif"], "--system must be one of video, frozen, images, frozen-images"),
        (["msrvtt", "x.json", "--keep", "some"], "--keep must be one of none, examples, all"),
        (["msrvtt", "x.json", "--actors", "0"], "--actors must be 1 or more"),
        (["msrvtt", "x.json", "--engine", "slurm"], "--engine must be one of local, ray"),
        (["msrvtt", "x.json", "--engine", "ray", "--device", "cuda:1"], "Ray deals out the GPUs"),
        (["folder", "{data}", "--actors", "2"], "--actors 2 are Ray's: add --engine ray"),
        (["sprites", "--engine", "slurm"], "--engine must be one of local, ray"),
        (["msrvtt", "x.json"], "the extractor inception-2015"),
        (["msrvtt", "x.json", "--extractors", "c3d", "--frames", "4"], "c3d reads clips of 16 frames, not 4"),
        (["ucf101", "nowhere"], "there is no folder nowhere"),
        (["ucf101", "{data}/msrvtt"], "there is no folder ucfTrainTestlist"),
        (["ucf101", "{data}/ucf", "--fold", "9"], "UCF-101 has the folds 1, 2 and 3"),
        (["ucf101", "{data}/ucf", "--videos", "0"], "--videos and --repeats must be 1 or more"),
    ],
)
def test_a_mistake_is_one_sentence(cli, data: Path, words: list[str], said: str) -> None:
    more = (
        []
        if "--extractors" in words or words[0] == "sprites" or said.startswith("the extractor")
        else ["--extractors", "clip"]
    )
    code, _, complained = cli("evaluate", *(each.format(data=data) for each in words), *more)
    assert code == 1 and said in complained
    assert complained.strip().splitlines()[-1].startswith("error: ")
