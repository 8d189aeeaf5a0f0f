"""The order in which samples are seen, and each sample's own randomness: functions of (seed, epoch, index) alone.

So neither depends on the batch size, on the number of workers, or on where a run was stopped and taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from math import lcm

import numpy as np

# Sets these streams apart from those that a data set draws its own samples from, whatever its seed.
_STREAM = 0x7EA1


@lru_cache(maxsize=6)
def _permutation(size: int, *key: int) -> np.ndarray:
    # 32 bits where they suffice: ten million clips take 40 MB.
    kind = np.int32 if size < 2**31 else np.int64
    return np.random.default_rng([_STREAM, *key]).permutation(size).astype(kind)


def shuffled_place(position: int, size: int, seed: int, *stream: int) -> tuple[int, int]:
    """(epoch, index) of a position in an endless order of ``range(size)``: each epoch is a new permutation.

    Args:
        position: 0, 1, 2, ….
        size: how many there are to order.
        seed: of the run.
        stream: numbers that set this order apart from others of the seed.
    """
    epoch, place = divmod(position, size)
    return epoch, int(_permutation(size, seed, *stream, epoch)[place])


def whole_weights(weights: Sequence[float]) -> list[int]:
    """Weights as whole numbers in the same ratios, taken at their decimal word: 0.1 and 0.2 are 1 and 2."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    return [int(weight * scale) for weight in exact]


def interleaved(position: int, weights: Sequence[int]) -> tuple[int, int]:
    """(which, place): which of several streams a position of their mixture is of, and where in that stream it is.

    The first stream's k-th element comes where what it is due reaches k; what is left is shared in the same way by the
    others. So every stream has its share of the mixture from the beginning, wherever one begins to read.

    Args:
        position: 0, 1, 2, … in the mixture.
        weights: of the streams, 0 or more, not all 0.
    """
    rest = sum(weights)
    for which, weight in enumerate(weights):
        before, after = position * weight // rest, (position + 1) * weight // rest
        if after > before:
            return which, before
        position -= before
        rest -= weight
    raise AssertionError("the last weight above 0 takes what is left")


def rng_for(seed: int, *place: int) -> np.random.Generator:
    """The random stream of one place in a run: a sample (epoch, index)."""
    # numpy takes no notice of zeros at the end: the last number keeps (1,) and (1, 0) apart.
    return np.random.default_rng([_STREAM, seed, *place, len(place)])


class Choices:
    """Choices among a few, from the random stream of one place; where there is nothing to choose nothing is drawn."""

    def __init__(self, place: Sequence[int]) -> None:
        self._place = place

    @cached_property
    def rng(self) -> np.random.Generator:
        """The stream."""
        return rng_for(*self._place)

    def among(self, count: int) -> int:
        """0 … ``count`` - 1."""
        return int(self.rng.integers(count)) if count > 1 else 0

    def happens(self, share: float) -> bool:
        """True in that share of all places."""
        return share >= 1 or (share > 0 and float(self.rng.random()) < share)
