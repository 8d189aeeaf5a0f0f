"""Colour drift and frame flicker of clips whose colours are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from latentshift.data.sprites import MOTIONS, SYMMETRY, THINGS, Track, draw_texture, draw_track, render_mask
from latentshift.evaluation.sprites.stability import Stability, core_colours, measure_stability

GROUND = np.array([15, 20, 80])
STEPS = np.arange(16)[:, None]
NOTHING = Stability(None, None)


def paint(colours: np.ndarray, path: Track | None = None, thing: str = "star", size: int = 64) -> np.ndarray:
    """A clip whose thing has ``colours`` (16, 3), or (3,) in all frames."""
    path = path or draw_track(np.random.default_rng(0), "moving left")
    mask = render_mask(thing, path, size)[..., None]
    ground = GROUND + draw_texture(np.random.default_rng(1), size)[None, :, :, None]
    colours = np.broadcast_to(colours, (16, 3))[:, None, None]
    return np.clip(np.rint(ground * (1 - mask) + colours * mask), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("thing", THINGS)
def test_a_constant_colour_has_none_however_the_thing_moves(thing: str) -> None:
    rng = np.random.default_rng(2)
    for motion in MOTIONS:
        if motion != "spinning" or SYMMETRY[thing]:
            clip = paint(np.array([250, 140, 30]), draw_track(rng, motion), thing)
            assert (core_colours(clip) == [250, 140, 30]).all(), motion
            assert measure_stability(clip) == Stability(0.0, 0.0), motion


def test_a_ramp_has_the_drift_of_its_length_and_no_flicker() -> None:
    clip = paint(np.array([150, 60, 200]) + STEPS * [2, 4, -2])
    length = math.sqrt(30**2 + 60**2 + 30**2)
    found = measure_stability(clip)
    assert found.colour_drift == pytest.approx(length * math.sqrt(17 / (12 * 15)), abs=1e-6)
    assert found.frame_flicker == pytest.approx(0, abs=1e-6)


def test_an_alternation_has_its_size_and_four_times_it() -> None:
    change = np.array([10, -6, 4])
    found = measure_stability(paint(np.array([200, 100, 40]) + np.where(STEPS % 2, change, -change)))
    assert found.colour_drift == pytest.approx(np.linalg.norm(change), abs=1e-6)
    assert found.frame_flicker == pytest.approx(4 * np.linalg.norm(change), abs=1e-6)


def test_a_colour_far_from_the_others_is_measured_too() -> None:
    red, cyan = np.array([230, 40, 40]), np.array([40, 220, 230])
    found = measure_stability(paint(np.where(STEPS < 8, red, cyan)))
    assert found.colour_drift == pytest.approx(np.linalg.norm(red - cyan) / 2, abs=1e-6)
    assert found.frame_flicker == pytest.approx(2 * np.linalg.norm(red - cyan) / 14, abs=1e-6)


def test_what_shows_no_thing_has_no_figures() -> None:
    clip = paint(np.array([200, 100, 40]))
    empty = np.broadcast_to(np.rint(GROUND), clip.shape).astype(np.uint8)
    noise = np.random.default_rng(3).integers(0, 256, clip.shape, dtype=np.uint8)
    assert measure_stability(empty) == measure_stability(noise) == measure_stability(clip[:1]) == NOTHING
    gone = clip.copy()
    gone[[2, 5, 8, 11]] = empty[0]
    assert measure_stability(gone) == Stability(0.0, 0.0)
    gone[14] = empty[0]
    assert measure_stability(gone) == NOTHING  # 11 of 16 frames show it


def test_two_things_are_none_and_two_frames_have_no_second_difference() -> None:
    clip = paint(np.array([250, 250, 250]), draw_track(np.random.default_rng(0), "standing still"), "square")
    both = np.where((np.roll(clip, 32, axis=2) == 250).all(axis=-1, keepdims=True), 250, clip).astype(np.uint8)
    assert np.isnan(core_colours(both)).all() and measure_stability(both) == NOTHING
    assert measure_stability(clip[:2]) == Stability(0.0, None)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="a video"):
        measure_stability(np.zeros((16, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match="a video"):
        measure_stability(np.zeros((64, 64, 3), np.uint8))
