"""What ``bench keyframes`` measures, on clips where it is known, and that it resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentshift import LatentShiftPipeline
from latentshift.benchmarks import keyframes as bench
from latentshift.benchmarks.kept_measures import open_folder
from latentshift.data.sprites import COLOURS, NUM_FRAMES, Sprite, Sprites, Track, render
from latentshift.evaluation.sprites.keyframe_measures import measure_keyframes

LAST = NUM_FRAMES - 1


@pytest.fixture(scope="module")
def moving() -> tuple[np.ndarray, Sprite, Track, np.ndarray]:
    world = Sprites(seed=3)
    index = next(each for each in range(100) if world.sprite(each).motion == "moving right")
    sprite, path, texture = world.describe(index)
    sprite = replace(sprite, colour="red")
    return render(sprite, path, texture), sprite, path, texture


def test_a_true_clip_is_where_it_should_be_and_keeps_its_colour(moving: tuple) -> None:
    clip, sprite, _, _ = moving
    values = measure_keyframes(clip, clip, (0, LAST), sprite, "red")
    assert values["place"] == values["place_beside"] == 0
    assert all(values[f"colour_{each}"] == 0 for each in (1, 2, 4)) and "colour_8" not in values  # none is so far off
    assert (values["same_colour"], values["motion"], values["thing"]) == (1, 1, 1)


def test_a_keyframe_that_nothing_follows(moving: tuple) -> None:
    clip, sprite, path, texture = moving
    aside = Track(path.x, path.y + 0.1, path.radius, path.angle)
    video = render(replace(sprite, colour="white"), aside, texture)
    video[0] = clip[0]
    values = measure_keyframes(video, clip, (0,), sprite, "red")
    assert values["place_beside"] == pytest.approx(0.1, abs=0.005) and values["place"] == pytest.approx(0.1, abs=0.005)
    apart = np.linalg.norm(np.subtract(COLOURS["red"], COLOURS["white"]))
    assert all(values[f"colour_{each}"] == pytest.approx(apart, abs=1) for each in (1, 2, 4, 8))
    assert (values["same_colour"], values["thing"]) == (0, 1)
    half = video.copy()
    half[8:] = render(sprite, path, texture)[8:]
    assert measure_keyframes(half, clip, (0,), sprite, "red")["same_colour"] == pytest.approx(8 / 15)


def test_frames_without_a_thing_have_no_place_and_no_colour(moving: tuple) -> None:
    clip, sprite, _, _ = moving
    video = np.broadcast_to(clip[0, :1, :1], clip.shape).copy()
    video[0] = clip[0]
    values = measure_keyframes(video, clip, (0,), sprite, "red")
    assert not {"place", "place_beside", "colour_1", "colour_8"} & set(values)
    assert values["same_colour"] == values["motion"] == 0


def test_the_command_makes_a_row_of_each_case_and_resumes(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CASES", bench.CASES[2:9:6])  # all of them take half a minute
    words = ("bench", "keyframes", "--videos", 1, "--steps", 2, "--dtype", "float32", "--given", "first")
    code, out, err = cli(*words, "-o", "measured")
    assert code == 0, err
    rows = [line for line in out.splitlines() if line.startswith(("| true clips", "| first"))]
    assert len(rows) == 2 and " clean " in rows[1]
    kept = {path: path.read_bytes() for path in Path("measured").rglob("*.jsonl")}
    assert len(kept) == 2
    Path("measured/first-clean/worker-000.jsonl").write_bytes(b"")
    assert cli(*words, "-o", "measured")[1] == out  # what was lost is made again, the same
    assert {path: path.read_bytes() for path in kept} == kept
    fifth = cli(*words[:-1], "every fifth", "-o", "measured")[1]
    assert "| every fifth " in fifth and "| first" not in fifth
    assert (
        "--given must be one of first, first and last, every fifth, not 'all'" in cli(*words[:-1], "all", "-o", "x")[2]
    )
    lora = Path(__file__).parent.parent / "models" / "sprites-keyframes" / "lora.safetensors"
    distilled = ("bench", "keyframes", "--videos", 1, "--given", "first", "--sampler", "lcm", "--lora", lora)
    assert cli(*distilled, "-o", "distilled")[0] == 0
    settings = json.loads(Path("distilled/settings.json").read_text())
    assert (settings["sampler"], settings["steps"], settings["guidance"]) == ("LCMScheduler", 4, 1.0)
    code, _, err = cli(*words, "--guidance", 3, "-o", "measured")
    assert code == 1 and "holds a result with other settings: guidance" in err


def test_what_was_measured_is_of_one_shift_and_one_share_of_noise(model: Path, tmp_path: Path) -> None:
    """Neither is in a model's weights, and videos differ by both."""
    pipeline = LatentShiftPipeline.from_pretrained(model)
    open_folder(tmp_path, pipeline, steps=2)
    assert set(json.loads((tmp_path / "settings.json").read_text())) == {"contents", "sampler", "dtype", "steps"}
    pipeline.set_noise_share(1.0)
    with pytest.raises(ValueError, match=r"other settings: noise_share was None and is now 1\.0"):
        open_folder(tmp_path, pipeline, steps=2)
    pipeline.set_noise_share(0.0)
    for shift in ({"padding": "replicate"}, None):
        pipeline.set_shift(shift)
        with pytest.raises(ValueError, match="other settings: shift was None"):
            open_folder(tmp_path, pipeline, steps=2)
    pipeline.set_shift({})
    open_folder(tmp_path, pipeline, steps=2)
