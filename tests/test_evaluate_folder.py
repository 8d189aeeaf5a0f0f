"""``latentshift evaluate folder`` on clips of another system, as a user meets it."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from latentshift.data.footage.spread import Spread
from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits
from latentshift.evaluation.extractors import cache
from latentshift.evaluation.protocols.clip_files import FrameChoice, list_clips, read_clips
from latentshift.evaluation.report.schema import read_report
from latentshift.video import read_video, write_video
from tiny_extractors import CMMD, add_tiny_extractors

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
    assert list(values) == ["FVD", "KVD", "CLIPSIM", CMMD, "frame consistency", "amount of motion"]
    assert {each.n for each in report.metrics} == {4}
    assert values["FVD"].n_reference == 3 and values["FVD"].frames == FRAMES and values["FVD"].size == "16x16"
    assert any("not verified" in each for each in values["FVD"].warnings)
    assert any("features needs at least 401" in each for each in values["FVD"].warnings)
    assert report.system.name == "CogVideo" and report.system.kind == "clips"
    reasons = {each.file: each.reason for each in report.rejected}
    assert reasons["short.mp4"] == "it has 7 frames, and 16 are taken of each clip"
    assert "can't be opened as a video" in reasons["broken.mp4"]
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


def test_true_clips_among_the_clips_are_told_and_a_result_lies_elsewhere(cli, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "true")
    shutil.rmtree(tmp_path / "true" / "deep")
    shutil.copy(clips / "deep" / "a-star.mp4", tmp_path / "true" / "other name.mp4")
    words = ["evaluate", "folder", clips, "--extractors", "clip", "--device", "cpu"]
    code, _, said = cli(*words, "--reference", tmp_path / "true", "-o", "result")
    assert code == 0 and "6 of 6 clips are the same files as true clips, such as 0003.gif" in said
    assert "6 of 6 clips are the same files" in Path("result/report.md").read_text().partition("## <a id")[2]
    for place in (clips / "result", tmp_path / "true"):
        code, _, said = cli(*words, "--reference", tmp_path / "true", "-o", place)
        assert code == 1 and "whose clips are measured" in said and not (clips / "result").exists()
    (clips / "short.mp4").unlink()
    code, _, said = cli(*words, "--reference", tmp_path / "true", "-o", "result")
    assert code == 1 and "result holds a result of other videos" in said and "removed or replaced" in said


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
        (["loop"], "there is no folder loop"),
        (["clips", "--reference", "loop"], "there is no folder loop"),
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
            "none of the 1 videos of bad can be used; no.mp4: it can't be opened as a video",
        ),
    ],
)
def test_a_mistake_is_one_sentence(cli, clips: Path, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "bad" / "no.mp4").write_bytes(b"nothing")
    (tmp_path / "other.txt").write_text("something else\n")
    code, _, complained = cli("evaluate", "folder", *words, "-o", "result")
    assert code == 1 and said in complained
    assert complained.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "result" / "report.json").exists()


def test_frames_are_evenly_spaced_over_the_time() -> None:
    ends = np.arange(1, 33) / 8
    assert Spread(4).choose(ends).tolist() == [0, 8, 16, 24]
    assert Spread(4, seconds=2).choose(ends).tolist() == [0, 4, 8, 12]
    in_hundredths = np.round(np.arange(1, 33) / 8 + 0.001, 2)  # a .gif's: 0.13 and 0.12 s in turns
    assert Spread(16).choose(in_hundredths).tolist() == list(range(0, 32, 2))
    in_milliseconds = np.round(np.arange(1, 33) / 30, 3)
    assert Spread(16).choose(in_milliseconds).tolist() == list(range(0, 32, 2))
    with pytest.raises(Rejected, match=r"lasts 4.00 s, and 5 s are taken"):
        Spread(4, seconds=5).choose(ends)
    with pytest.raises(Rejected, match=r"it has 32 frames, and 33 are taken"):
        Spread(33).choose(ends)
    with pytest.raises(Rejected, match=r"it has 1 frame, and 2 are taken"):
        Spread(2).choose(ends[:1])


def test_frames_at_a_variable_rate_are_chosen_by_time() -> None:
    ends = np.array([1.0, 2.0, *(2 + np.arange(1, 9) / 4)])  # two slow frames, then eight fast ones
    assert Spread(8).choose(ends).tolist() == [0, 0, 1, 1, 2, 4, 6, 8]
    assert Spread(2, seconds=2).choose(ends).tolist() == [0, 1]
    merged = np.array([0.1, 0.4, 0.5])  # the middle one stands for three equal frames
    assert Spread(5).choose(merged).tolist() == [0, 1, 1, 1, 2]
    with pytest.raises(Rejected, match="it has 5 frames, and 6 are taken"):
        Spread(6).choose(merged)


def written_at(path: Path, starts: list[int], colour_transfer: int = 1) -> None:
    """A video whose frames are as bright as they are late, shown at so many ms, in 10 bits for HDR."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.color_trc = colour_transfer
        stream.options = {"crf": "1"}
        for start in starts:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), start // 20, np.uint8), format="rgb24")
            frame.pts, frame.time_base = start, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_files_that_would_be_read_wrongly_are_refused_and_times_are_kept(tmp_path: Path) -> None:
    written_at(tmp_path / "slow-then-fast.mp4", [0, 500, 1000, 1500, *range(2000, 4000, 40)])
    written_at(tmp_path / "hdr.mp4", list(range(0, 2000, 100)), colour_transfer=16)
    half = np.zeros((16, 16, 4), np.uint8)
    half[:8, :, 3] = 255
    moving = [Image.fromarray(np.where(half == 255, 255, number).astype(np.uint8), "RGBA") for number in range(20)]
    for name in ("clear.webp", "clear.png"):
        moving[0].save(tmp_path / name, save_all=True, append_images=moving[1:], duration=100, lossless=True)
    levels = [10 * (5 if number in (6, 7) else number) for number in range(20)]  # three equal frames, stored as one
    grey = [Image.new("L", (16, 16), level) for level in levels]
    grey[0].save(tmp_path / "merged.gif", save_all=True, append_images=grey[1:], duration=100)
    items = list_clips(tmp_path).items
    read = read_clips(tmp_path, list(enumerate(items)), FrameChoice(16), WorkerLimits(1))
    videos = {item.file: video for _, item, video in read}
    times = videos["slow-then-fast.mp4"][:, 0, 0, 0].astype(int) * 20
    assert np.abs(times - np.minimum(np.arange(16) * 250 // 500 * 500, 1500))[:8].max() <= 40
    assert np.abs(times - np.arange(16) * 250)[9:].max() <= 80  # the ninth is at the change, give or take a frame
    assert videos["merged.gif"][:, 0, 0, 0].tolist() == [levels[number * 20 // 16] for number in range(16)]
    assert {name: str(video) for name, video in videos.items() if isinstance(video, Rejected)} == {
        "hdr.mp4": "it is HDR (PQ)",
        "clear.png": "parts of it are transparent",
        "clear.webp": "parts of it are transparent",
    }


def test_folders_of_frames_of_other_names_and_linked_folders_are_clips(tmp_path: Path) -> None:
    clips, video = tmp_path / "clips", clip(1)
    for folder, name in (("frames", "frame_{}.png"), ("jpegs", "{:04}.jpg")):
        (clips / folder).mkdir(parents=True)
        for number, frame in enumerate(video, 1):
            Image.fromarray(frame).save(clips / folder / name.format(number))
    write_video(tmp_path / "elsewhere" / "linked.webp", video)
    (clips / "linked").symlink_to(tmp_path / "elsewhere")
    (clips / "linked" / "back").symlink_to(clips / "linked")
    (clips / "array.npy").write_bytes(b"")
    (clips / "prompts.txt").write_text("")
    listed = list_clips(clips)
    assert [each.file for each in listed.items] == ["frames", "jpegs", "linked/linked.webp"]
    pictures, others = listed.notes
    assert pictures.startswith("2 folders of pictures") and others.startswith("1 file in") and "array.npy" in others
    (_, _, first), *_ = read_clips(clips, list(enumerate(listed.items)), FrameChoice(16), WorkerLimits(1))
    assert np.array_equal(first, video)  # frame_2 is before frame_10
    assert len(list_clips(clips, frames=1).items) == 2 * FRAMES + 1  # pictures of an image model


def test_a_linked_folder_counts_once_and_links_in_a_circle_end(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    for folder in ("clips/one", "clips/two", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(clip(1)[0]).save(tmp_path / folder / "frame.png")
    (clips / "one" / "to_two").symlink_to(clips / "two")
    (clips / "two" / "to_one").symlink_to(clips / "one")
    assert [each.file for each in list_clips(clips, frames=1).items] == [
        *("one/frame.png", "one/to_two/frame.png", "two/frame.png", "two/to_one/frame.png")
    ]
    for name in ("two", "one"):
        (clips / f"link_{name}").symlink_to(tmp_path / "elsewhere")
    linked = {str(each.file) for each in list_clips(clips, frames=1).items if str(each.file).startswith("link_")}
    assert linked == {"link_one/frame.png"}


def test_a_replaced_file_is_noticed(clips: Path) -> None:
    before = {each.file: each.content for each in list_clips(clips).items}
    assert set(before) == {"A red star_7.webp", "deep/a-star.mp4", "red", "0003.gif", "short.mp4", "broken.mp4"}
    write_video(clips / "deep" / "a-star.mp4", clip(6))
    after = {each.file: each.content for each in list_clips(clips).items}
    assert {name for name in before if before[name] != after[name]} == {"deep/a-star.mp4"}


def test_a_report_is_json_that_others_read(cli, clips: Path, tmp_path: Path) -> None:
    assert cli("evaluate", "folder", clips, "--extractors", "clip", "--device", "cpu", "-o", "result")[0] == 0
    values = json.loads((tmp_path / "result" / "report.json").read_text())
    assert values["format"] == "latentshift-evaluation/1" and values["protocol"] == "folder"
    assert values["command"].startswith("latentshift evaluate folder ")
    assert values["settings"]["frames"] == 16 and values["settings"]["n"] == 4


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    """Clips 5 levels away from their true ones, equal to them, of another size, and in no pair."""
    ours, true = tmp_path / "ours", tmp_path / "true"
    clips = [np.clip(clip(number), 0, 250) for number in range(3)]
    for folder, names in (
        (ours, ("near.webp", "deep/equal.webp", "wide.webp")),
        (true, ("near.webp", "deep/equal.webp")),
    ):
        for name, video in zip(names, clips, strict=False):
            write_video(folder / name, video)
    write_video(ours / "near.webp", clips[0] + np.uint8(5))
    write_video(true / "wide.webp", clip(2, side=32))
    (true / "gone.mp4").write_bytes(b"nothing")
    write_video(ours / "gone.webp", clips[0])
    write_video(ours / "alone.webp", clips[0])
    write_video(true / "lonely.webp", clips[0])
    return ours, true


def test_pairs_have_psnr_and_ssim_and_what_is_in_no_pair_is_listed(
    cli, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    ours, true = pairs
    words = ["evaluate", "folder", ours, "--reference", true, "--paired", "--device", "cpu"]
    code, printed, complained = cli(*words, "--extractors", "clip", "-o", "result")
    assert code == 0, complained
    report = read_report(tmp_path / "result")
    values = {each.name: each for each in report.metrics}
    decibels = 10 * np.log10(255**2 / 25)
    assert values["PSNR"].value == pytest.approx((decibels + 100) / 2) and "PSNR" in printed
    assert (values["PSNR"].unit, values["PSNR"].n, values["PSNR"].n_reference) == ("dB", 2, 2)
    assert "counts as 100 dB" in values["PSNR"].variant and 0.9 < values["SSIM"].value < 1
    reasons = {each.file: each.reason for each in report.rejected}
    assert reasons["wide.webp"].startswith("it is 16x16 and its true clip 32x32: with --size")
    assert reasons["gone.webp"].startswith("its true clip gone.mp4 can't be used: ")
    assert reasons["alone.webp"] == "no true clip has its name"
    lonely = "1 of 5 true clips are in no pair, such as lonely.webp: they count in "
    assert f"{lonely}distances alone." in complained
    assert [each.file and each.values["PSNR"] for each in report.videos] == pytest.approx([100, decibels])
    page = (tmp_path / "result" / "report.md").read_text()
    assert "The best by PSNR first" in page and "near.webp" in page  # without a prompt the file is named
    assert [each.source for each in report.videos] == ["deep/equal.webp", "near.webp"]
    kept = tmp_path / "result" / "readings" / "worker-000.jsonl"
    kept.write_bytes(kept.read_bytes().splitlines(keepends=True)[0])  # as a kill leaves it
    assert cli(*words, "--extractors", "clip", "-o", "result")[0] == 0
    assert read_report(tmp_path / "result").metrics == report.metrics
    code, _, complained = cli(*words[:5], "--device", "cpu", "--extractors", "clip", "-o", "result")
    assert code == 1 and "holds a result with other settings" in complained
    assert cli(*words, "--extractors", "clip", "--size", 8, "-o", "small")[0] == 0
    small = read_report(tmp_path / "small")
    assert small.metric("PSNR").n == 3 and small.metric("SSIM") is None
    assert any(each.endswith("CLIPSIM is left out: no clip has a caption.") for each in small.notes)
    assert "SSIM is left out: it needs frames of 11 pixels a side or more." in small.notes


def test_pairs_need_no_extractor(
    cli, pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "no-extractors"))
    ours, true = pairs
    words = ["evaluate", "folder", ours, "--reference", true, "--device", "cpu", "-o", "result"]
    assert "the extractor inception-2015" in cli(*words)[2]
    code, _, complained = cli(*words, "--paired")
    assert code == 0 and complained.count("is not there: no") == 3
    assert "such as lonely.webp: they count in no number." in complained
    assert [each.name for each in read_report(tmp_path / "result").metrics] == ["PSNR", "SSIM", "amount of motion"]


def test_pairs_are_compared_at_the_same_moments(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "no-extractors"))
    whole = np.arange(32, dtype=np.uint8)[:, None, None, None] * np.full((16, 16, 3), 7, np.uint8)
    for name, fps, video in (("half", 8, whole[:16]), ("rate", 4, whole[::2]), ("slow", 4, whole)):
        write_video(tmp_path / "ours" / f"{name}.webp", video, fps=fps)
        write_video(tmp_path / "true" / f"{name}.webp", whole, fps=8)
    words = ["evaluate", "folder", "ours", "--reference", "true", "--paired", "--device", "cpu"]
    code, _, complained = cli(*words, "-o", "result")
    assert code == 0, complained
    report = read_report(tmp_path / "result")
    (half,) = report.rejected
    assert half.reason.startswith("it has 16 frames in 2 s and its true clip 32 in 4 s: with --seconds 2 the beginnin")
    assert report.metric("PSNR").value == 100 and report.metric("PSNR").n == 2
    (tmp_path / "ours" / "slow.webp").unlink()
    (tmp_path / "ours" / "rate.webp").unlink()
    assert cli(*words, "--seconds", 2, "-o", "beginnings")[0] == 0
    assert read_report(tmp_path / "beginnings").metric("PSNR").value == 100


def test_pairs_that_can_not_be_told_are_one_sentence(cli, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    ours, true = pairs
    write_video(tmp_path / "other" / "b.webp", clip(0))
    for words, said in (
        ([ours, "--paired"], "name their folder with --reference"),
        (
            [ours, "--paired", "--reference", "other"],
            "no clip in " + str(ours) + " has the name of one in other, such as b",
        ),
    ):
        code, _, complained = cli("evaluate", "folder", *words, "-o", "result")
        assert code == 1 and said in complained and complained.startswith("error: ")
    write_video(ours / "near.gif", clip(0))
    code, _, complained = cli("evaluate", "folder", ours, "--reference", true, "--paired", "-o", "result")
    assert code == 1 and "can't tell near.gif and near.webp" in complained and complained.count("\n") == 1
