"""How far raters agree: Fleiss' kappa and Krippendorff's alpha for nominal values, with bootstrap intervals.

Legend of shapes: U units, C categories.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from latentshift.evaluation.metrics.bootstrap import bootstrap_interval


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Agreement of a fixed number of raters beyond chance, at most 1 (Fleiss 1971).

    Args:
        counts: for each unit the number of raters who chose each category, (units, categories).

    Returns:
        The coefficient; None where every rater chose the same category everywhere, since chance then agrees too.

    Raises:
        ValueError: without a unit, for units of other categories, or unless all have the same 2 or more raters.
    """
    if not counts:
        raise ValueError("Fleiss' kappa needs one unit or more")
    if len({len(unit) for unit in counts}) > 1 or min(min(unit, default=0) for unit in counts) < 0:
        raise ValueError("Fleiss' kappa needs a count of 0 or more for each category in each unit")
    raters = sum(counts[0])
    if raters < 2 or any(sum(unit) != raters for unit in counts):
        raise ValueError("Fleiss' kappa needs the same number of raters, 2 or more, in each unit")
    pairs = raters * (raters - 1)
    observed = sum(n * (n - 1) for unit in counts for n in unit) / pairs / len(counts)
    totals = [sum(category) for category in zip(*counts, strict=True)]
    if max(totals) == raters * len(counts):
        return None
    by_chance = sum((total / raters / len(counts)) ** 2 for total in totals)
    return (observed - by_chance) / (1 - by_chance)


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Agreement beyond chance for nominal values, at most 1; raters may be missing (Krippendorff 2011).

    Args:
        units: for each unit the values it was given, by however many raters. Units of fewer than two values can't
            agree or disagree and are left out.

    Returns:
        The coefficient; None where no unit has two values, or all values are the same.
    """
    paired = [Counter(unit) for unit in units if len(unit) > 1]
    totals = sum(paired, Counter())
    n = sum(totals.values())
    if len(totals) < 2:
        return None
    # Pairs of unlike values within units, each unit's weighted by 1 / (its number of values - 1); and over all values.
    observed = sum((m**2 - sum(c**2 for c in unit.values())) / (m - 1) for unit in paired for m in [sum(unit.values())])
    by_chance = (n**2 - sum(total**2 for total in totals.values())) / (n - 1)
    return 1 - observed / by_chance


def kappa_interval(counts: Sequence[Sequence[int]], *, seed: int = 0) -> tuple[float, float] | None:
    """Bounds of the 95 % bootstrap interval of :func:`fleiss_kappa` over units.

    Args:
        counts: as for :func:`fleiss_kappa`.
        seed: of the draws.

    Returns:
        None where the coefficient is undefined, in a resample too; for fewer than
        :data:`latentshift.evaluation.metrics.bootstrap.MIN_VIDEOS` units; and where all resamples have one value, as at
        full agreement: that they do not differ tells nothing of other units.

    Raises:
        ValueError: as :func:`fleiss_kappa`.
    """
    if (value := fleiss_kappa(counts)) is None:
        return None
    of_unit = np.array(counts, np.float64)  # (U, C)
    raters = of_unit[0].sum()
    agreeing = (of_unit * (of_unit - 1)).sum(1) / (raters * (raters - 1))

    def kappa(drawn: np.ndarray) -> float:
        by_chance = np.square(of_unit[drawn].mean(0) / raters).sum()
        return float((agreeing[drawn].mean() - by_chance) / (1 - by_chance))

    return _interval(kappa, len(of_unit), value, seed)


def alpha_interval(units: Sequence[Sequence[Hashable]], *, seed: int = 0) -> tuple[float, float] | None:
    """Bounds of the 95 % bootstrap interval of :func:`krippendorff_alpha` over units of two values or more.

    Args:
        units: as for :func:`krippendorff_alpha`.
        seed: of the draws.

    Returns:
        None as for :func:`kappa_interval`.
    """
    if (value := krippendorff_alpha(units)) is None:
        return None
    paired = [Counter(unit) for unit in units if len(unit) > 1]
    categories = list(sum(paired, Counter()))
    of_unit = np.array([[unit[each] for each in categories] for unit in paired], np.float64)  # (U, C)
    values = of_unit.sum(1)
    unlike = (values**2 - np.square(of_unit).sum(1)) / (values - 1)

    def alpha(drawn: np.ndarray) -> float:
        totals = of_unit[drawn].sum(0)
        n = totals.sum()
        return float(1 - unlike[drawn].sum() * (n - 1) / (n**2 - np.square(totals).sum()))

    return _interval(alpha, len(paired), value, seed)


def _interval(
    coefficient: Callable[[np.ndarray], float], units: int, value: float, seed: int
) -> tuple[float, float] | None:
    with np.errstate(divide="ignore", invalid="ignore"):  # where all values drawn are the same
        bounds = bootstrap_interval(coefficient, units, value, seed=seed)
    if bounds is None or not all(map(math.isfinite, bounds)) or math.isclose(*bounds, abs_tol=1e-12):
        return None
    return bounds[0], min(bounds[1], 1.0)
