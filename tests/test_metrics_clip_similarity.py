"""CLIPSIM, consistency of frames and means over videos."""

from __future__ import annotations

import math

import numpy as np
import pytest

from latentshift.evaluation.metrics.clip_similarity import (
    FrameConsistency,
    clip_similarity,
    frame_consistency,
)
from latentshift.evaluation.metrics.video_means import mean_over_videos


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_clipsim_is_the_mean_of_the_raw_cosines() -> None:
    """Not times 100, not cut at zero, and whatever the norms."""
    lengths = np.array([[1.0], [9.0], [0.1]])
    expected = (math.cos(math.radians(60)) + math.cos(math.radians(120)) + math.cos(math.radians(170))) / 3
    assert expected < 0
    assert clip_similarity(at(60, 120, 170) * lengths, np.array([5.0, 0.0])) == pytest.approx(expected)


def test_clipsim_weighs_videos_and_not_frames() -> None:
    text = np.array([1.0, 0.0])
    values = {0: clip_similarity(at(0), text), 1: clip_similarity(at(90, 90, 90), text)}
    found = mean_over_videos("CLIPSIM", values, samples=4)
    assert found.value == pytest.approx(0.5)  # the mean over all frames would be 0.25
    assert (found.n, found.samples, found.interval) == (2, 4, None)
    assert found.warnings == ("2 videos are too few for an interval, which needs at least 10.",)


def test_embeddings_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        clip_similarity(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="norm 0"):
        clip_similarity(np.ones((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        clip_similarity(np.full((2, 3), np.nan), np.ones(3))


def test_a_still_video_is_consistent_and_does_not_move() -> None:
    picture = np.random.default_rng(0).integers(0, 256, size=(1, 8, 8, 3), dtype=np.uint8)
    still = frame_consistency(np.repeat(at(33), 4, axis=0), np.repeat(picture, 4, axis=0))
    assert still == FrameConsistency(pytest.approx(1), 0.0, 4)


def test_consistency_is_of_neighbours_and_motion_in_levels() -> None:
    video = np.zeros((3, 2, 2, 1), np.uint8)
    video[1], video[2] = 200, 190  # up by more than an int8 holds, and down
    found = frame_consistency(at(0, 60, 0), video)
    assert found.consistency == pytest.approx(0.5)  # first and last are alike, but no neighbours
    assert found.motion == pytest.approx((200 + 10) / 2)
    with pytest.raises(ValueError, match="at least 2 frames"):
        frame_consistency(at(0), video[:1])
    with pytest.raises(ValueError, match="one embedding a frame"):
        frame_consistency(at(0, 1), video)


def test_means_do_not_depend_on_order() -> None:
    values = dict(enumerate(np.random.default_rng(0).normal(size=25).tolist()))
    shuffled = {video: values[video] for video in np.random.default_rng(1).permutation(25).tolist()}
    whole = mean_over_videos("m", values, samples=25)
    assert mean_over_videos("m", shuffled, samples=25) == whole


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_missing_is_no_zero(bad: float) -> None:
    with pytest.raises(ValueError, match="m of video 3 is"):
        mean_over_videos("m", {0: 1.0, 3: bad}, samples=2)
    with pytest.raises(ValueError, match="no video"):
        mean_over_videos("m", {}, samples=1)
