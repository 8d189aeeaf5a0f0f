"""The sprites study's scores, on clips whose readings are known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.sprite_reader import read_clip
from latentshift.evaluation.sprite_stability import measure_stability
from latentshift.evaluation.sprites_study import PARTS, prompts_of, read_part, score_log, score_part, true_clip
from latentshift.evaluation.study import reconstruct
from latentshift.pipeline import open_pipeline

SEEN, HELD_OUT, IMAGES, _ = PARTS
COUNT = 12


@pytest.mark.parametrize("part", [SEEN, HELD_OUT, IMAGES], ids=lambda part: part.name)
def test_true_clips_are_those_of_the_prompts(part) -> None:
    for index, (sprite, _, _) in enumerate(prompts_of(part, 4, 64)):
        clip = true_clip(part, index, 64)
        reading = read_clip(clip)
        assert len(clip) == (1 if part.image else 16)
        assert (reading.colour, reading.thing, reading.background) == (sprite.colour, sprite.thing, sprite.background)
        assert reading.motion == (None if part.image else sprite.motion)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings of true clips, of which every third has alternating brightness and the last shows nothing."""
    log = tmp_path_factory.mktemp("study") / "seen.jsonl"

    def make(_: str, seed: int) -> np.ndarray:
        clip = true_clip(SEEN, seed, 64)
        if seed % 3 == 0:
            clip = np.where(np.arange(16)[:, None, None, None] % 2, clip, clip - np.minimum(clip, 4)).astype(np.uint8)
        return np.zeros_like(clip) if seed == COUNT - 1 else clip

    assert len(list(read_part(SEEN, COUNT, 64, make, log))) == COUNT
    return log


def test_stability_and_each_motion_are_scored(log: Path) -> None:
    scores = score_log(SEEN, COUNT, 64, log)
    drift = 2 * 3**0.5  # four levels of brightness, half of the frames, three channels
    assert scores["colour_drift"] == pytest.approx(asdict(mean_of([drift] * 4 + [0.0] * 7 + [None])), abs=1e-6)
    assert scores["frame_flicker"]["mean"] == pytest.approx(4 * drift * 4 / 11, abs=1e-6)
    asked = [sprite.motion for sprite, _, _ in prompts_of(SEEN, COUNT, 64)]
    assert {motion: each["n"] for motion, each in scores["motions"].items()} == {
        motion: asked.count(motion) for motion in set(asked)
    }
    assert sum(each["n"] * each["motion"] for each in scores["motions"].values()) == COUNT - 1
    assert scores["motions"][asked[-1]]["colour_drift"]["missing"] == 1


def test_readings_from_before_stability_was_measured_still_count(log: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines[:6]:
        del line["colour_drift"], line["frame_flicker"]
    old = tmp_path / "seen.jsonl"
    old.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before, now = score_log(SEEN, COUNT, 64, log), score_log(SEEN, COUNT, 64, old)
    assert now["n"] == before["n"] == COUNT and now["joint"] == before["joint"]
    assert (now["colour_drift"]["n"], now["colour_drift"]["missing"]) == (5, 1)


def test_images_have_no_stability_and_no_motions(tmp_path: Path) -> None:
    log = tmp_path / "images.jsonl"
    list(read_part(IMAGES, 3, 64, lambda _, seed: true_clip(IMAGES, seed - IMAGES.first_seed, 64), log))
    scores = score_part(IMAGES, 3, 64, log)
    assert scores["joint"] == 1.0 and scores["motion"] is None
    assert not {"colour_drift", "frame_flicker", "motions"} & scores.keys()


def test_the_bundled_autoencoder_gives_a_clip_back() -> None:
    clip = true_clip(SEEN, 0, 64)
    again = reconstruct(open_pipeline("bundled"), clip)
    assert again.shape == clip.shape and again.dtype == np.uint8
    assert np.abs(again.astype(int) - clip).mean() < 6
    assert measure_stability(again).colour_drift > 0
