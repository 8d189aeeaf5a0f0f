"""Fréchet distance (FID, FVD): closed forms, covariances of any rank, and the pitfalls of published codes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from latentshift.evaluation.metrics.frechet import frechet_distance, frechet_result
from latentshift.evaluation.metrics.moments import Moments
from latentshift.evaluation.metrics.result import MetricResult, comparison_differences, is_biased
from latentshift.evaluation.metrics.video_rows import VideoRows


def moments(rows: np.ndarray) -> Moments:
    each = Moments(rows.shape[1])
    each.update(rows, videos=len(rows))
    return each


def videos(rows: np.ndarray, frames: int = 1) -> VideoRows:
    each = VideoRows()
    for index, part in enumerate(np.split(rows, len(rows) // frames)):
        each.add(index, part)
    return each


def sample(mean: np.ndarray, factor: np.ndarray, count: int = 64, ddof: int = 1) -> np.ndarray:
    """Rows whose empirical mean and covariance, factor factorᵀ, are exact."""
    white = np.random.default_rng(len(mean) + count).normal(size=(count, factor.shape[1]))
    white, _ = np.linalg.qr(white - white.mean(0))
    return mean + white * np.sqrt(count - ddof) @ factor.T


@pytest.mark.parametrize(("over", "ddof"), [("N", 0), ("N-1", 1)])
def test_two_gaussians_have_the_closed_form(over, ddof: int) -> None:
    """Covariances that don't commute, in two dimensions: tr (AB)^½ = √(tr AB + 2 √det AB)."""
    a, b = np.array([[2.0, 0.0], [1.5, 0.5]]), np.array([[0.3, -1.0], [0.0, 4.0]])
    first, second = a @ a.T, b @ b.T
    assert np.abs(first @ second - second @ first).max() > 1
    means = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 0.25 + 25 + np.trace(first) + np.trace(second) - 2 * root
    found = frechet_distance(
        moments(sample(means[0], a, ddof=ddof)), moments(sample(means[1], b, 50, ddof)), covariance=over
    )
    assert found == pytest.approx(expected, rel=1e-6)


def test_many_dimensions_have_the_closed_form() -> None:
    """Covariances that share their axes: Σ (√λ - √μ)²."""
    rng = np.random.default_rng(1)
    axes, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    first, second = rng.uniform(0, 3, 30), rng.uniform(0, 3, 30)
    found = frechet_distance(
        moments(sample(np.zeros(30), axes * first)), moments(sample(np.ones(30), axes * second)), covariance="N-1"
    )
    assert found == pytest.approx(30 + ((first - second) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_rank_deficient_covariances_have_the_closed_form(rank: int) -> None:
    """12 dimensions, of which the two sets use ``rank`` and 12 - rank others, and then the same ones."""
    axes, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))
    spread = 3 * axes[:, :rank]
    first = sample(np.zeros(12), spread)
    same = frechet_distance(moments(first), moments(sample(np.zeros(12), 2 * spread, 40)), covariance="N-1")
    assert same == pytest.approx(9 * rank, rel=1e-6)  # Σ (6 - 3)²
    if rank < 12:
        other = frechet_distance(moments(first), moments(sample(np.zeros(12), axes[:, rank:], 40)), covariance="N-1")
        assert other == pytest.approx(9 * rank + 12 - rank, rel=1e-6)  # nothing in common: both traces


@pytest.mark.parametrize(("count", "scale"), [(300, 1.0), (16, 1.0), (16, 1e3), (2, 1.0)])
def test_a_set_has_no_distance_to_itself(count: int, scale: float) -> None:
    """Also with fewer samples than features, where a matrix square root has given -341."""
    rows = np.random.default_rng(0).gamma(0.5, scale, size=(count, 100))
    found = frechet_distance(moments(rows), moments(rows.copy()), covariance="N-1")
    assert 0 <= found <= 1e-11 * np.trace(np.cov(rows.T))


def test_sets_without_spread_are_as_far_apart_as_their_means() -> None:
    still = moments(np.tile([[1.0, 2.0]], (5, 1)))
    assert frechet_distance(still, moments(np.tile([[4.0, 6.0]], (3, 1))), covariance="N") == pytest.approx(25)


def test_it_agrees_with_the_matrix_square_root_where_that_works() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(400, 20)), rng.normal(size=(300, 20)) @ rng.normal(size=(20, 20)) + 0.3
    for over, ddof in (("N", 0), ("N-1", 1)):
        a, b = np.cov(first.T, ddof=ddof), np.cov(second.T, ddof=ddof)
        root = np.trace(linalg.sqrtm(a @ b).real)
        expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root
        found = frechet_distance(moments(first), moments(second), covariance=over)
        assert found == pytest.approx(expected, rel=1e-8)
        assert found == pytest.approx(frechet_distance(moments(second), moments(first), covariance=over), rel=1e-10)


def test_the_covariance_has_no_default_and_is_named_in_the_result() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3))
    first, second = moments(rows), moments(rows * 2)
    with pytest.raises(TypeError):
        frechet_distance(first, second)  # type: ignore[call-arg]
    over_n = frechet_result("FVD", first, second, covariance="N")
    over_n_1 = frechet_result("FVD", first, second, covariance="N-1")
    assert (over_n.variant, over_n_1.variant) == ("covariance over N", "covariance over N-1")
    spread = over_n.value - (means := (rows.mean(0) ** 2).sum())
    assert over_n_1.value - means == pytest.approx(spread * 12 / 11)  # the variances alone scale
    assert comparison_differences(over_n, over_n_1) == (
        "the variants differ (covariance over N and covariance over N-1)",
    )


def test_distances_at_two_sizes_are_never_compared_without_a_word() -> None:
    """The same two distributions are further apart at a smaller N."""
    rng = np.random.default_rng(0)
    real, fake = moments(rng.normal(size=(4000, 40))), rng.normal(size=(2000, 40))
    small = frechet_result("FVD", moments(fake[:45]), real, covariance="N-1")
    large = frechet_result("FVD", moments(fake), real, covariance="N-1")
    assert small.value > 10 * large.value
    assert comparison_differences(small, large) == ("the videos differ (45 and 2,000)",)
    assert comparison_differences(large, large) == ()
    frames = [MetricResult("FID", 1.0, 10, samples, n_reference=4) for samples in (160, 80)]
    assert comparison_differences(*frames) == ("the samples differ (160 and 80)",)
    fewer_true = MetricResult("FID", 1.0, 10, 160, n_reference=3)
    assert comparison_differences(frames[0], fewer_true) == ("the reference videos differ (4 and 3)",)
    with pytest.raises(ValueError, match="different metrics"):
        comparison_differences(large, MetricResult("FID", 1.0, 1, 1))


def test_what_has_no_bias_is_compared_at_any_number_and_repeats_by_one_of_them() -> None:
    for name in ("KID", "sprites-KVD", "CLIPSIM", "amount of motion", "all right (seen)"):
        few, many = (MetricResult(name, 1.0, n, 16 * n, n_reference=n) for n in (10, 1000))
        assert not is_biased(name) and comparison_differences(few, many) == ()
    assert all(map(is_biased, ("FID", "sprites-FVD", "IS", "C3D-IS", "sprites-clip-IS", "ViT-B/32-CMMD")))
    ten, four, large = (
        MetricResult("C3D-IS", 9.0, n * repeats, n * repeats, repeats=repeats)
        for n, repeats in ((2048, 10), (2048, 4), (10_000, 4))
    )
    assert comparison_differences(ten, four) == ()
    assert comparison_differences(ten, large) == ("the videos differ (2,048 a repeat and 10,000 a repeat)",)


def test_too_few_samples_for_the_covariance_are_a_warning_with_the_number_needed() -> None:
    rng = np.random.default_rng(0)
    few, enough = videos(rng.normal(size=(20, 20))), moments(rng.normal(size=(21, 20)))
    assert frechet_result("FID", few, enough, covariance="N", resamples=5).warnings == (
        "20 generated samples are too few: the covariance of 20 features needs at least 21, and the distance is biased "
        "upwards.",
    )
    (both,) = frechet_result("FID", few, few, covariance="N", resamples=5).warnings  # one sentence for equal counts
    assert both.startswith("20 generated and as many reference samples are too few")
    assert len(frechet_result("FID", few, videos(rng.normal(size=(19, 20))), covariance="N", resamples=5).warnings) == 2
    assert frechet_result("FID", enough, enough, covariance="N").warnings == ()


def test_many_frames_of_few_videos_do_not_pass_for_enough_samples() -> None:
    rng = np.random.default_rng(0)
    frames = moments(rng.normal(size=(21, 20)))
    frames.videos = 7
    (warning,) = frechet_result("FID", moments(rng.normal(size=(21, 20))), frames, covariance="N").warnings
    assert warning.startswith("21 reference samples are of 7 videos") and "take 21 videos or more" in warning


def test_a_folder_read_again_and_again_is_reported() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    again = frechet_result("FVD", videos(rows), videos(np.tile(rows, (3, 1))), covariance="N", resamples=5)
    assert again.warnings == ("40 of 60 reference videos repeat another one.",)


def test_a_result_counts_videos_and_frames_and_keeps_frames_with_their_video() -> None:
    """Sixteen equal frames a video make the interval of one frame a video, not one of a quarter of its width."""
    rng = np.random.default_rng(0)
    rows, real = rng.normal(size=(30, 2)) + 1, moments(rng.normal(size=(100, 2)))
    one = frechet_result("FID", videos(rows), real, covariance="N", resamples=100)
    sixteen = frechet_result("FID", videos(np.repeat(rows, 16, axis=0), 16), real, covariance="N", resamples=100)
    assert (sixteen.n, sixteen.samples, sixteen.n_reference) == (30, 480, 100)
    assert sixteen.value == pytest.approx(one.value) and sixteen.interval == pytest.approx(one.interval)
    assert one.interval is not None and 0 <= one.interval[0] < one.value < one.interval[1]
    assert frechet_result("FID", moments(rows), real, covariance="N").interval is None


def test_the_interval_holds_the_value_although_resamples_are_further_away() -> None:
    rng = np.random.default_rng(0)
    found = frechet_result(
        "FVD", videos(rng.normal(size=(60, 30))), moments(rng.normal(size=(60, 30))), covariance="N-1", resamples=60
    )
    assert found.interval is not None and found.interval[0] < found.value < found.interval[1]


def test_other_features_on_the_other_side_are_refused() -> None:
    with pytest.raises(ValueError, match="same features: 2 and 3"):
        frechet_distance(moments(np.eye(2)), moments(np.eye(3)), covariance="N")
