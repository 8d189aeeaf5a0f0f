"""What ``bench extension`` measures, on clips where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentshift.data.sprites import COLOURS, Sprite, Track, draw_track, render
from latentshift.evaluation.sprites.clip_drift import measure_drift

LENGTH, STRIDE = 16, 8


@pytest.fixture(scope="module")
def circling() -> tuple[Sprite, Track, np.ndarray]:
    """Of 32 frames: three windows."""
    sprite = Sprite("red", "circle", "circling", "black")
    rng = np.random.default_rng(0)
    return sprite, draw_track(rng, "circling", 32), np.zeros((64, 64))


def test_a_clip_that_goes_on_as_it_began_does_not_drift(circling: tuple) -> None:
    sprite, path, texture = circling
    values = measure_drift(render(sprite, path, texture), LENGTH, STRIDE, sprite)
    for window in range(3):
        assert values[f"colour_{window}"] == values[f"ground_{window}"] == 0
        assert values[f"contrast_{window}"] == pytest.approx(1, abs=0.02)
        assert values[f"same_colour_{window}"] == values[f"seen_{window}"] == values[f"motion_{window}"] == 1
    assert "colour_3" not in values
    assert values["seam_step"] == pytest.approx(values["inner_step"], rel=0.1) and values["seam_colour"] == 0


def test_another_colour_a_paler_ground_and_a_jump_show_where_they_are(circling: tuple) -> None:
    sprite, path, texture = circling
    jumped = Track(path.x, np.where(np.arange(32) < 24, path.y, path.y - 0.15), path.radius, path.angle)
    video = render(sprite, jumped, texture)
    video[16:] = render(replace(sprite, colour="white"), jumped, texture)[16:]
    video[16:] = video[16:] // 2
    values = measure_drift(video, LENGTH, STRIDE, sprite)
    apart = np.linalg.norm(np.array(COLOURS["red"]) - np.array(COLOURS["white"]) // 2)
    assert values["colour_2"] == pytest.approx(apart, abs=2) and values["colour_0"] == 0
    assert values["colour_1"] == pytest.approx(apart / 2, abs=2)  # half of its frames
    assert values["ground_2"] == pytest.approx(5 * 3**0.5, abs=0.1)
    assert values["same_colour_2"] == 0 and values["same_colour_1"] == 0.5
    assert values["contrast_2"] > 1.1  # white on black, at half the light, beside red on black
    assert values["motion_0"] == 1 and values["motion_2"] == 0
    assert values["seam_step"] > values["inner_step"] + 0.04  # of two seams, at frames 16 and 24
    assert values["seam_colour"] == pytest.approx(apart / 2, abs=2) and values["inner_colour"] == 0


def test_the_command_compares_three_ways(cli) -> None:
    words = (
        "bench",
        "extension",
        "--videos",
        1,
        "--steps",
        2,
        "--extensions",
        1,
        "--overlaps",
        "12",
        "--dtype",
        "float32",
    )
    code, out, err = cli(*words, "-o", "measured")
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in out.splitlines() if line.startswith("| o")]
    names = ["one pass", "overlap 12, seen noisy", "overlap 12, seen clean"]
    assert [row[0] for row in rows] == [*(name for name in names for _ in range(2)), *names]
    assert [row[1:3] for row in rows[:2]] == [["16", "0"], ["20", "1"]]
