"""Which videos a report shows: the best and the worst by CLIPSIM or PSNR, or the first ones where there is neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latentshift.evaluation.protocols.measure import CLIPSIM, PSNR
from latentshift.evaluation.protocols.readings import Readings

EACH = 4  # best, and as many worst


def best_and_worst(values: Mapping[int, float]) -> list[int]:
    """Indices of the best, then of the worst, the very worst last; all of them if there are no more."""
    order = sorted(values, key=lambda index: (-values[index], index))
    return order if len(order) <= 2 * EACH else order[:EACH] + order[-EACH:]


def example_indices(readings: Readings) -> list[int]:
    """Of the videos to show."""
    values = readings.values(CLIPSIM) or readings.values(PSNR)
    return best_and_worst(values) if values else first_indices(readings.measured.tolist())


def first_indices(indices: Sequence[int]) -> list[int]:
    """The first of them."""
    return list(indices[: 2 * EACH])
