"""Inception score: known distributions, one softmax at most, seeded splits, any split over processes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax

from latentshift.evaluation.metrics.inception_score import (
    InceptionScore,
    InceptionSums,
    inception_result,
    inception_score,
    to_probabilities,
)
from latentshift.evaluation.metrics.video_rows import VideoRows


def random_outputs(samples: int = 40, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    logits = np.random.default_rng(0).normal(size=(samples, classes)) * 3
    return logits, softmax(logits, axis=1)


def test_known_distributions_have_their_scores() -> None:
    certain = np.tile(np.eye(5), (4, 1))
    assert inception_score(certain, "probabilities", splits=4, seed=None).mean == pytest.approx(5, rel=1e-14)
    equal = np.full((8, 5), 0.2)
    assert inception_score(equal, "probabilities", splits=2, seed=None).mean == pytest.approx(1, rel=1e-14)
    # Two halves, (p, 1-p) and (1-p, p): ln 2 - H(p).
    p = 0.9
    halves = np.tile([[p, 1 - p], [1 - p, p]], (3, 1))
    expected = math.exp(math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p))
    assert inception_score(halves, "probabilities", splits=1, seed=None).mean == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_it_agrees_with_the_formula_written_out(splits: int) -> None:
    """With splits of unequal size, in the order that numpy's RandomState shuffles rows into."""
    logits, probabilities = random_outputs(41)
    rows = probabilities.copy()
    np.random.RandomState(42).shuffle(rows)
    scores = []
    for part in range(splits):
        p = rows[part * 41 // splits : (part + 1) * 41 // splits]
        scores.append(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0))), axis=1))))
    for outputs, kind in ((logits, "logits"), (probabilities, "probabilities")):
        found = inception_score(outputs, kind, splits=splits, seed=42)
        assert found.mean == pytest.approx(np.mean(scores), rel=1e-12)
        assert found.deviation == pytest.approx(np.std(scores), rel=1e-9, abs=1e-14)


def test_the_deviation_of_one_split_is_zero_and_not_nan() -> None:
    assert inception_score(random_outputs()[0], "logits", splits=1, seed=0).deviation == 0.0


def test_a_second_softmax_is_refused() -> None:
    """It would make the best score of 101 classes 1.02."""
    logits, probabilities = random_outputs(101, 101)
    with pytest.raises(ValueError, match="probabilities already, not logits"):
        inception_score(probabilities, "logits", splits=1, seed=0)
    with pytest.raises(ValueError, match="probabilities already"):
        inception_score(probabilities.astype(np.float16), "logits", splits=1, seed=0)
    with pytest.raises(ValueError, match="no probabilities"):
        inception_score(logits, "probabilities", splits=1, seed=0)
    with pytest.raises(ValueError, match="no probabilities"):
        inception_score(np.log(probabilities), "probabilities", splits=1, seed=0)
    with pytest.raises(ValueError, match="probabilities or logits"):
        to_probabilities(logits, "softmax")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        inception_score(probabilities, splits=1, seed=0)  # type: ignore[call-arg]
    assert inception_score(softmax(np.eye(101), axis=1), "probabilities", splits=1, seed=0).mean < 1.03


def test_splits_are_shuffled_by_their_seed() -> None:
    logits, _ = random_outputs()

    def score(seed: int | None) -> InceptionScore:
        return inception_score(logits, "logits", splits=4, seed=seed)

    assert score(0) == score(0) != score(1)
    assert score(None) != score(0)


@pytest.mark.parametrize("cuts", [[0, 40], [0, 1, 40], [0, 13, 13, 26, 40]])
def test_sums_of_any_split_are_the_whole(cuts: list[int]) -> None:
    logits, _ = random_outputs()
    order = np.random.default_rng(len(cuts)).permutation(40)
    merged = InceptionSums(40, splits=4, seed=1)
    for start, end in pairwise(cuts):
        part = InceptionSums(40, splits=4, seed=1)
        if end > start:
            part.add(order[start:end], logits[order[start:end]], "logits")
        merged.merge(part)
    whole = inception_score(logits, "logits", splits=4, seed=1)
    assert merged.score().mean == pytest.approx(whole.mean, rel=1e-13)
    assert merged.score().deviation == pytest.approx(whole.deviation, rel=1e-11)


def test_no_sample_counts_twice_or_is_left_out() -> None:
    logits, _ = random_outputs()
    sums = InceptionSums(40, splits=2, seed=0)
    with pytest.raises(ValueError, match="40 of 40 samples are missing"):
        sums.score()
    sums.add(np.arange(30), logits[:30], "logits")
    with pytest.raises(ValueError, match="sample 29 was added before"):
        sums.add(np.arange(29, 31), logits[:2], "logits")
    with pytest.raises(ValueError, match="twice"):
        sums.add(np.array([31, 31]), logits[:2], "logits")
    with pytest.raises(ValueError, match="39 to 40 are not among"):
        sums.add(np.arange(39, 41), logits[:2], "logits")
    with pytest.raises(ValueError, match="as many indices"):
        sums.add(np.arange(30, 33), logits[:2], "logits")
    with pytest.raises(ValueError, match="same classes: 6 and 5"):
        sums.add(np.arange(30, 32), logits[:2, :5], "logits")
    with pytest.raises(ValueError, match="10 of 40 samples are missing"):
        sums.score()
    with pytest.raises(ValueError, match="30 samples are in both parts"):
        sums.merge(sums)
    with pytest.raises(ValueError, match="can't be merged"):
        sums.merge(InceptionSums(40, splits=2, seed=1))
    sums.add(np.arange(30, 40), logits[30:], "logits")
    assert sums.score() == inception_score(logits, "logits", splits=2, seed=0)
    with pytest.raises(ValueError, match="3 samples can't be divided into 4 splits"):
        InceptionSums(3, splits=4, seed=0)


def test_a_result_carries_its_interval_and_warns_of_small_splits() -> None:
    logits, _ = random_outputs(60)
    outputs = VideoRows()
    for index, rows in enumerate(np.split(logits, 20)):
        outputs.add(index, rows)
    found = inception_result("IS", outputs, "logits", splits=5, seed=42, resamples=50)
    assert (found.n, found.samples, found.variant) == (20, 60, "5 splits, shuffled with seed 42")
    assert found.value == inception_score(logits, "logits", splits=5, seed=42).mean
    assert found.interval is not None and found.interval[0] < found.value < found.interval[1]
    assert found.deviation == pytest.approx(inception_score(logits, "logits", splits=5, seed=42).deviation)
    assert "12 samples of a split are of 4 videos" in " ".join(found.warnings)
    assert inception_result("IS", outputs, "logits", splits=3, seed=42, resamples=2).warnings == ()
    small = inception_result("IS", outputs, "logits", splits=12, seed=None, resamples=2)
    assert small.variant == "12 splits, in order"
    assert "5 samples for 6 classes" in small.warnings[0] and "72 samples or more" in small.warnings[0]
