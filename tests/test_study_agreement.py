"""Agreement and strengths against published worked examples and closed forms."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest

from latentshift.evaluation.metrics.bootstrap import bootstrap_interval
from latentshift.study.agreement import alpha_interval, fleiss_kappa, kappa_interval, krippendorff_alpha
from latentshift.study.bradley_terry import bradley_terry

# 10 units, 14 raters, 5 categories: the worked example of Fleiss' kappa in Wikipedia's article of that name.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections A, B and C: a row for each observer.
KRIPPENDORFF = [
    (["0100000010", "1110010000"], 0.095),
    (["aabbdcccedda", "babbbccceddd"], 0.692),
    (["123321412...", "1233224125.3", ".3332342251.", "12332441251."], 0.743),
]

# Wins of the row's team over the column's, American League 1987: Agresti, "Categorical Data Analysis", Bradley-Terry.
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
BASEBALL = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
BASEBALL_STRENGTHS = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]  # of R's BradleyTerry2, over Baltimore


def test_kappa_of_the_worked_example() -> None:
    assert fleiss_kappa(FLEISS) == pytest.approx(0.210, abs=5e-4)


def test_kappa_is_1_at_full_agreement_and_least_where_each_unit_is_split() -> None:
    assert fleiss_kappa([[5, 0], [0, 5], [5, 0]]) == 1
    assert fleiss_kappa([[1, 1], [1, 1]]) == -1
    assert fleiss_kappa([[5, 0], [5, 0]]) is None


@pytest.mark.parametrize("counts", [[], [[1, 0]], [[2, 3], [2, 2]], [[5], [5, 0]], [[6, -1], [5, 0]]])
def test_kappa_of_other_numbers_of_raters_is_refused(counts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="Fleiss"):
        fleiss_kappa(counts)


@pytest.mark.parametrize(("observers", "alpha"), KRIPPENDORFF)
def test_alpha_of_the_worked_examples(observers: list[str], alpha: float) -> None:
    units = [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(alpha, abs=5e-4)


def test_alpha_by_all_pairs_of_values() -> None:
    """1 - Do/De with both disagreements counted pair by pair."""
    rng = random.Random(1)
    units = [[rng.choice("abc") for _ in range(rng.randint(0, 6))] for _ in range(40)]
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    observed = sum(
        sum(a != b for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j) / (len(unit) - 1)
        for unit in paired
    ) / len(values)
    by_chance = sum(a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
    expected = 1 - observed / (by_chance / len(values) / (len(values) - 1))
    assert krippendorff_alpha(units) == pytest.approx(expected, rel=1e-12)


def test_alpha_without_pairs_or_with_one_value_is_undefined() -> None:
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([["a"], ["b"]]) is None
    assert krippendorff_alpha([["a", "a"], ["a", "a"], ["b"]]) is None
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1


def test_strengths_of_the_worked_example() -> None:
    strengths = bradley_terry(BASEBALL)
    assert strengths - strengths[-1] == pytest.approx(BASEBALL_STRENGTHS, abs=2e-3)
    assert strengths.sum() == pytest.approx(0, abs=1e-9)


def test_strengths_of_two_are_the_log_odds() -> None:
    assert np.diff(bradley_terry([[9, 30], [10, 9]])) == pytest.approx(-math.log(3))


def test_expected_wins_give_their_strengths_back() -> None:
    true = np.array([0.7, 0.1, -0.3, -0.5])
    wins = 50 / (1 + np.exp(true[None] - true[:, None]))
    assert bradley_terry(wins) == pytest.approx(true, abs=1e-8)


def test_strengths_that_no_answers_determine_are_refused() -> None:
    with pytest.raises(ValueError, match="C never won against A, B"):
        bradley_terry([[0, 1, 1], [1, 0, 1], [0, 0, 0]], ["A", "B", "C"])
    with pytest.raises(ValueError, match="A never won against C"):
        bradley_terry([[0, 1, 0], [1, 0, 0], [0, 0, 0]], ["A", "B", "C"])
    assert bradley_terry([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) == pytest.approx([0, 0, 0])  # over others
    for wrong in ([[0, -1], [1, 0]], [[0, math.nan], [1, 0]], [[0, 1]], [[0]]):
        with pytest.raises(ValueError, match="wins"):
            bradley_terry(wrong)


def test_a_study_needs_no_torch() -> None:
    modules = [
        "agreement",
        "bradley_terry",
        "report_document",
        "store",
        "make",
        "server.app",
        "server.run",
    ]
    lines = [
        *(f"import latentshift.study.{name}" for name in modules),
        "import sys",
        "assert 'torch' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "; ".join(lines)], check=True)


def test_intervals_are_those_of_resampled_units() -> None:
    """As the coefficients themselves give them, unit by unit."""

    def kappa(drawn: np.ndarray) -> float:
        found = fleiss_kappa([FLEISS[each] for each in drawn])
        assert found is not None
        return found

    expected = bootstrap_interval(kappa, len(FLEISS), kappa(np.arange(10)), seed=3)
    assert kappa_interval(FLEISS, seed=3) == pytest.approx(expected, abs=1e-12)
    units = ["aabb", "ab", "aaa", "abab", "b", "aab", "bb", "ba", "bbb", "aabab", "ab", "bbba"]
    paired = [each for each in units if len(each) > 1]

    def alpha(drawn: np.ndarray) -> float:
        found = krippendorff_alpha([paired[each] for each in drawn])
        assert found is not None
        return found

    expected = bootstrap_interval(alpha, len(paired), alpha(np.arange(11)), seed=3)
    assert alpha_interval(units, seed=3) == pytest.approx(expected, abs=1e-12)


def test_intervals_hold_the_agreement_of_all_units_and_shrink_by_the_root_of_their_number() -> None:
    """Votes for the first by a probability that is uniform over units: kappa and alpha are then 1 / 3."""
    rng = np.random.default_rng(1)
    widths, covered = {}, 0
    for number in (40, 640):
        widths[number] = 0.0
        for repeat in range(3):
            first = rng.binomial(5, rng.random(number))
            counts = [[each, 5 - each] for each in first.tolist()]
            of_kappa = kappa_interval(counts, seed=repeat)
            of_alpha = alpha_interval(["a" * one + "b" * two for one, two in counts], seed=repeat)
            assert of_kappa is not None and of_alpha is not None
            covered += (of_kappa[0] <= 1 / 3 <= of_kappa[1]) + (of_alpha[0] <= 1 / 3 <= of_alpha[1])
            widths[number] += of_kappa[1] - of_kappa[0]
    assert covered >= 10 and widths[40] / widths[640] == pytest.approx(4, rel=0.25)


def test_without_doubt_or_units_there_is_no_interval() -> None:
    split = [[3, 2], [2, 3], [5, 0]]
    assert kappa_interval(split * 3) is None and kappa_interval(split * 4) is not None
    assert kappa_interval([[5, 0], [0, 5]] * 20) is None and alpha_interval(["aa", "bb"] * 20) is None
    assert kappa_interval([[5, 0]] * 20) is None and alpha_interval(["aa"] * 20) is None and alpha_interval([]) is None
    assert alpha_interval(["ab"] + ["aa"] * 11) is None  # in a third of the resamples all votes are alike
