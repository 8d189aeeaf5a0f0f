"""Accumulators of features: the merge of any split is the whole, and no video counts twice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from latentshift.evaluation.metrics.moments import Moments
from latentshift.evaluation.metrics.video_rows import VideoRows


def features(videos: int, width: int = 5, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1 + video % 3, width)).astype(np.float32) for video in range(videos)]


def filled(rows: list[np.ndarray], videos: np.ndarray | range, **settings: int) -> VideoRows:
    each = VideoRows(**settings)
    for video in videos:
        each.add(int(video), rows[video])
    return each


@pytest.mark.parametrize("limit", [None, 7, 100])
def test_rows_of_any_split_and_order_are_the_same_bit_by_bit(limit: int | None) -> None:
    rows = features(30)
    whole = filled(rows, range(30), limit=limit)
    for seed, cuts in ((0, [0, 4, 30]), (1, [0, 0, 9, 9, 22, 30])):
        order = np.random.default_rng(seed).permutation(30)
        merged = VideoRows(limit=limit)
        for start, end in pairwise(cuts):
            merged.merge(filled(rows, order[start:end], limit=limit))
        assert merged.seen == whole.seen == 30 and len(merged) == len(whole) == min(30, limit or 30)
        for ours, theirs in zip(merged.by_video(), whole.by_video(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_rows_stay_as_they_were_added() -> None:
    buffer = np.ones((2, 3))
    each = VideoRows()
    each.add(0, buffer)
    buffer[:] = 7
    np.testing.assert_array_equal(each.by_video()[0], np.ones((2, 3)))


def test_a_limit_keeps_a_uniform_sample() -> None:
    rows = [np.array([[float(video)]]) for video in range(40)]
    kept = np.zeros(40)
    for seed in range(400):
        for row in filled(rows, range(40), limit=10, seed=seed).by_video():
            kept[int(row[0, 0])] += 1
    assert kept.sum() == 4000
    assert np.abs(kept - 100).max() < 4 * np.sqrt(400 * 0.25 * 0.75)  # four standard deviations of a binomial count


def test_no_video_counts_twice() -> None:
    rows = features(4)
    first, second = filled(rows, range(3)), filled(rows, range(2, 4))
    with pytest.raises(ValueError, match="video 2 was added before"):
        first.add(2, rows[2])
    with pytest.raises(ValueError, match="1 videos are in both parts, the first is video 2"):
        first.merge(second)
    assert first.seen == 3
    forgotten = filled(features(9), range(9), limit=1)
    with pytest.raises(ValueError, match="was added before"):
        forgotten.add(4, rows[0])  # also where a video is no longer kept


def test_a_video_that_repeats_another_is_counted() -> None:
    rows = features(6)
    assert filled(rows, range(6)).repeat_warning("generated") == ()
    again = filled([*rows, rows[4], rows[4]], range(8))
    assert again.repeat_warning("generated") == ("2 of 8 generated videos repeat another one.",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3), int), "floating"),
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "at least one"),
        (np.array([[1.0, np.nan, 0.0]]), "not finite"),
        (np.array([[1.0, np.inf, 0.0]]), "not finite"),
        (np.zeros((2, 4)), "same number of features: 3 and 4"),
    ],
)
def test_rows_that_are_no_features_are_refused(rows: np.ndarray, message: str) -> None:
    each = VideoRows()
    each.add(0, np.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        each.add(1, rows)
    assert each.seen == 1
    moments = Moments(3)
    with pytest.raises(ValueError, match=message):
        moments.update(rows, videos=1)
    assert moments.count == 0


def test_no_videos_and_unlike_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="no videos"):
        VideoRows().by_video()
    with pytest.raises(ValueError, match="different limits or seeds"):
        VideoRows(limit=3).merge(VideoRows(limit=3, seed=1))
    with pytest.raises(ValueError, match="limit"):
        VideoRows(limit=0)
    with pytest.raises(ValueError, match="index"):
        VideoRows().add(-1, np.ones((1, 1)))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_of_any_split_are_those_of_the_whole(offset: float) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 6)) @ np.diag([1, 1, 1, 1, 10, 0.1]) + offset
    for cuts in ([0, 60], [0, 1, 2, 40, 60], [0, 30, 60]):
        merged = Moments(6)
        merged.merge(Moments(6))
        for start, end in pairwise(cuts):
            part = Moments(6)
            part.update(rows[start:end], videos=end - start)
            merged.merge(part)
        assert (merged.count, merged.videos) == (60, 60)
        np.testing.assert_allclose(merged.mean, rows.mean(0), rtol=1e-14, atol=1e-14)
        for over, ddof in (("N", 0), ("N-1", 1)):
            theirs = np.cov(rows.T, ddof=ddof)
            np.testing.assert_allclose(merged.covariance(over), theirs, atol=1e-9 if offset else 1e-12)


def test_sums_of_32_bit_features_are_of_64_bits() -> None:
    rows = (np.random.default_rng(0).normal(size=(500, 2)) + 1000).astype(np.float32)
    moments = Moments(2)
    moments.update(rows, videos=500)
    np.testing.assert_allclose(moments.covariance("N"), np.cov(rows.T.astype(np.float64), ddof=0), rtol=1e-10)


def test_a_covariance_names_what_it_is_over() -> None:
    one = Moments(2)
    one.update(np.ones((1, 2)), videos=1)
    with pytest.raises(ValueError, match="needs more than 1 samples"):
        one.covariance("N-1")
    with pytest.raises(ValueError, match="needs more than 0 samples"):
        Moments(2).covariance("N")
    with pytest.raises(ValueError, match="over N or N-1"):
        one.covariance("n")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 and 3"):
        one.merge(Moments(3))
    with pytest.raises(ValueError, match="at least one video"):
        one.update(np.ones((1, 2)), videos=0)
