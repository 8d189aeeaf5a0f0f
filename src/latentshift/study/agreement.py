"""How far raters agree: Fleiss' kappa and Krippendorff's alpha for nominal values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


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
