"""A study's folder from folders of clips, and the sentences that mistakes give."""

from __future__ import annotations

import os
import re
import shutil
import stat
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits
from latentshift.evaluation.protocols.prompted_clips import PromptedClips
from latentshift.study.broken_twin import break_clip
from latentshift.study.make import MadeStudy, make_study
from latentshift.study.playable import inspect_clip
from latentshift.study.settings import Question, StudySettings
from latentshift.study.store import Store
from latentshift.video import read_video, write_video
from latentshift.video.prompt_slug import prompt_slug

PROMPTS = ["a red star, circling", "a blue dot resting", "two dots"]


def clip(number: int, frames: int = 3, size: int = 16) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def write_clips(folder: Path, first: int = 0, *, named: bool = False, suffix: str = ".webp") -> Path:
    """A clip of each prompt, as ``generate`` writes them, or with the prompt in the name alone."""
    for number, prompt in enumerate(PROMPTS, first):
        name = f"{prompt}-0" if named else f"{prompt_slug(prompt)}-{number}"
        metadata = {} if named else {"prompt": prompt, "seed": number}
        write_video(folder / (name + suffix), clip(number), metadata=metadata)
    return folder


@pytest.fixture
def systems(tmp_path: Path) -> dict[str, Path]:
    return {
        "ours": write_clips(tmp_path / "ours"),
        "theirs": write_clips(tmp_path / "theirs", 10, named=True, suffix=".gif"),
    }


def test_a_study_holds_each_clip_under_a_name_that_tells_nothing(systems: dict[str, Path], tmp_path: Path) -> None:
    made = make_study(systems, PROMPTS, tmp_path / "study", StudySettings(raters_each=2, check_every=2), identical=1)
    assert made == MadeStudy(3, 6, made.notes) and len(made.notes) == 0
    files = sorted(path.name for path in (tmp_path / "study" / "clips").iterdir())
    assert len(files) == 8 and all(re.fullmatch(r"\d{5}\.(webp|gif)", name) for name in files)
    ours = {path.read_bytes() for path in systems["ours"].iterdir()}
    theirs = {path.read_bytes() for path in systems["theirs"].iterdir()}
    pairs = 0
    with Store(tmp_path / "study") as store:
        assert store.systems() == ["ours", "theirs"]
        (token,) = store.add_raters(1)
        while (pair := store.next_assignment(token)) is not None:
            left, right = ((tmp_path / "study" / "clips" / name).read_bytes() for name in (pair.left, pair.right))
            store.answer(token, pair.id, {"quality": "left", "faithfulness": "right"})
            if left in ours | theirs and right in ours | theirs and left != right:
                pairs += 1
                assert (left in ours) != (right in ours), "a pair is of two systems"
                mine = left if left in ours else right
                own = next(path for path in systems["ours"].iterdir() if path.read_bytes() == mine)
                assert own.name.startswith(prompt_slug(pair.prompt))
    assert pairs == 3


def test_the_same_seed_makes_the_same_study(systems: dict[str, Path], tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        make_study(systems, PROMPTS, tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name / "clips").iterdir()})
    assert contents[0] == contents[1]


def test_linked_clips_stay_as_they_are(systems: dict[str, Path], tmp_path: Path) -> None:
    private = next(systems["ours"].iterdir())
    private.chmod(0o600)
    make_study(systems, PROMPTS, tmp_path / "study", link=True, broken=0)
    clips = list((tmp_path / "study" / "clips").iterdir())
    originals = [path for folder in systems.values() for path in folder.iterdir()]
    assert sorted(os.path.realpath(each) for each in clips) == sorted(os.path.realpath(each) for each in originals)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_what_is_unlike_is_said(systems: dict[str, Path], tmp_path: Path) -> None:
    odd = next(systems["theirs"].iterdir())
    write_video(odd, clip(5, frames=6))
    write_video(systems["ours"] / "another.webp", clip(6), metadata={"prompt": "something else"})
    one, two = make_study(systems, PROMPTS, tmp_path / "study", broken=0).notes
    assert "ours that are of none of the prompts (1)" in one and "another.webp" in one
    copied = {"ours": systems["ours"], "again": tmp_path / "again"}
    shutil.copytree(systems["ours"], copied["again"])
    *_, same = make_study(copied, PROMPTS, tmp_path / "twice", broken=0).notes
    assert same.startswith("ours and again have the same file for 3 of 3 prompts")
    assert two == "theirs: the clips are not alike: 2 of 3 frames of 16x16 in 0.38 s, 1 of 6 frames of 16x16 in 0.75 s"


def test_mistakes_are_one_sentence_and_leave_nothing(systems: dict[str, Path], tmp_path: Path) -> None:
    ours, theirs = systems["ours"], systems["theirs"]
    study = tmp_path / "new" / "study"

    def refused(why: str, prompts: list[str] = PROMPTS, **arguments: object) -> None:
        with pytest.raises((ValueError, OSError), match=why) as error:
            make_study(**{"systems": systems, "prompts": prompts, "output": study, **arguments})  # type: ignore[arg-type]
        assert "\n" not in str(error.value) and not study.parent.exists()

    refused("two systems or more, not 1", systems={"ours": ours})
    refused("the list of prompts is empty", [])
    refused('the prompt "two dots" is given 2 times', [*PROMPTS, "two dots"])
    refused(r'ours holds no clip of the prompt "x\\x1b" \(nor of 1 others\)', [*PROMPTS, "x\x1b", "y"])
    refused("there is no folder", systems={**systems, "third": tmp_path / "nowhere"})
    refused("has 0 to 6 broken attention checks, not 7", broken=7)
    (tmp_path / "empty").mkdir()
    refused("holds no clips", systems={**systems, "third": tmp_path / "empty"})
    shutil.copy(next(theirs.glob("two*")), theirs / "two_dots.gif")
    refused(r'theirs holds 2 clips of the prompt "two dots", where one is wanted: two dots-0.gif, two_dots.gif')
    (theirs / "two dots-0.gif").unlink()
    (theirs / "two_dots.gif").write_bytes(b"no picture")
    refused("two_dots.gif can't be used: it can't be read as an image")
    with pytest.raises(FileExistsError, match="exists already"):
        make_study(systems, PROMPTS, ours)


def test_a_name_that_fits_two_prompts_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "take 5.gif", clip(1))
    with pytest.raises(ValueError, match="fits several prompts"):
        find_clips(tmp_path, ["take", "take 5"])
    assert find_clips(tmp_path, ["take 5"]) == ({"take 5": tmp_path / "take 5.gif"}, [])


def find_clips(folder: Path, prompts: list[str]) -> tuple[dict[str, Path], list[str]]:
    """The clip of each prompt, and notes."""
    with PromptedClips({"a": folder}, prompts, WorkerLimits(1)) as found:
        return found.path_of["a"], found.notes


def test_the_prompt_in_the_metadata_is_taken_and_not_the_name(tmp_path: Path) -> None:
    star, dot = tmp_path / "a-red-star-1.gif", tmp_path / "a-blue-dot-2.gif"
    write_video(star, clip(1), metadata={"prompt": "a blue dot"})
    write_video(dot, clip(2), metadata={"prompt": "a red star"})
    assert find_clips(tmp_path, ["a red star", "a blue dot"]) == ({"a red star": dot, "a blue dot": star}, [])
    write_video(star, clip(1), metadata={"prompt": "a green ring"})
    path_of, (note,) = find_clips(tmp_path, ["a red star"])
    assert path_of == {"a red star": dot}
    assert note == f"clips in {tmp_path} that are of none of the prompts (1): a-red-star-1.gif"
    with pytest.raises(ValueError, match='holds no clip of the prompt "a blue dot"'):
        find_clips(tmp_path, ["a red star", "a blue dot"])


def test_long_prompts_are_found_by_name(tmp_path: Path) -> None:
    prompt = "a very long prompt " * 8
    write_video(tmp_path / f"{prompt_slug(prompt)}-123.gif", clip(1))
    assert list(find_clips(tmp_path, [prompt])[0]) == [prompt]


def test_videos_that_browsers_do_not_play_are_refused(tmp_path: Path) -> None:
    for codec, pixels, why in (("mpeg4", "yuv420p", "is in mpeg4"), ("libx264", "yuv444p", "H.264 of yuv444p")):
        path = tmp_path / f"{codec}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=8)
            stream.width = stream.height = 16
            stream.pix_fmt = pixels
            for frame in clip(1):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        assert why in inspect_clip(path).unplayed
    shutil.copy(path, tmp_path / "other.mkv")
    assert inspect_clip(tmp_path / "other.mkv").unplayed.startswith("is a .mkv file, which browsers don't play")
    write_video(tmp_path / "good.mp4", clip(1, frames=5))
    found = inspect_clip(tmp_path / "good.mp4")
    assert (found.frames, found.width, found.seconds, found.unplayed) == (5, 16, 5 / 8, "")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "glass.png")
    with pytest.raises(Rejected, match="parts of it are transparent"):
        inspect_clip(tmp_path / "glass.png")


def test_clips_are_those_that_scores_are_of(tmp_path: Path) -> None:
    """Linked folders and frames of other programs too; raters see frames of a folder unchanged, and square pixels."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "linked").symlink_to(write_clips(tmp_path / "elsewhere"), target_is_directory=True)
    theirs = write_clips(tmp_path / "theirs", 10, named=True)
    (theirs / "two dots-0.webp").unlink()
    (theirs / "two_dots").mkdir()
    frames = clip(7, frames=11)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(theirs / "two_dots" / f"frame_{number}.png")  # 10 after 9, and not after 1
    (theirs / "a blue dot resting-0.webp").unlink()
    with av.open(str(theirs / "a_blue_dot_resting.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 16, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for frame in np.repeat(clip(8, size=32)[:, :, :16], 4, axis=0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    systems = {"ours": tmp_path / "ours", "theirs": theirs}
    made = make_study(systems, PROMPTS, tmp_path / "study", broken=6, identical=0)
    assert "1 clips are folders of frames" in " ".join(made.notes) and "frame a picture" in " ".join(made.notes)
    assert "1 of 12 frames of 32x32 in 1.50 s" in " ".join(made.notes)
    read = [read_video(path) for path in sorted((tmp_path / "study" / "clips").iterdir())]
    assert [fps for each, fps in read if np.array_equal(each, frames)] == [8]
    shapes = sorted(each.shape for each, _ in read)
    assert shapes.count((12, 32, 16, 3)) == shapes.count((12, 32, 32, 3)) == 1  # the file as it is, and its twin


@pytest.mark.parametrize("size", [(16, 16), (64, 96), (21, 35), (2, 5)])
def test_no_block_of_a_broken_twin_keeps_its_place(size: tuple[int, int]) -> None:
    height, width = size
    frames = np.arange(height * width).reshape(1, height, width, 1) % 251 + np.zeros((4, 1, 1, 3))
    frames = frames.astype(np.uint8)
    broken = break_clip(frames, 1)
    tall, wide = broken.shape[1:3]
    assert height - 16 < tall <= height and width - 16 < wide <= width
    assert sorted(broken[0].ravel()) == sorted(frames[0, :tall, :wide].ravel())
    assert (broken == broken[:1]).all(), "it doesn't flicker"
    assert (broken != frames[:, :tall, :wide]).mean() > 0.8
    assert (break_clip(frames, 2) != broken).any() or size == (2, 5)


def test_a_clip_of_one_colour_has_no_broken_twin() -> None:
    with pytest.raises(ValueError, match="look all the same"):
        break_clip(np.full((2, 16, 16, 3), 7, np.uint8), 0)


def test_a_broken_twin_is_the_clip_in_pieces(systems: dict[str, Path], tmp_path: Path) -> None:
    settings = StudySettings(check_every=2, questions=(Question("quality", "Which?"),))
    make_study(systems, PROMPTS, tmp_path / "study", settings, broken=6, identical=0)
    clips = tmp_path / "study" / "clips"
    frames = {path.name: read_video(path)[0] for path in clips.iterdir() if path.suffix == ".webp"}
    pixels = [tuple(np.sort(each[0], axis=None)) for each in frames.values()]
    assert len(pixels) == 6 and len(set(pixels)) == 3  # three clips and the twin of each


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"raters_each": 0}, "1 to 1,000 raters, not 0"),
        ({"questions": ()}, "one or more questions"),
        ({"questions": (Question("a", "x"), Question("a", "y"))}, "different names"),
        ({"lease_seconds": 0}, "more than 0 seconds"),
        ({"lease_seconds": float("nan")}, "more than 0 seconds"),
        ({"check_every": 1}, "2 or more pairs"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        StudySettings(**settings)  # type: ignore[arg-type]
