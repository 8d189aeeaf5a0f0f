"""The order of samples and the random stream of each: functions of (seed, epoch, index) alone.

Neither depends on the batch size, the number of workers, or where a run was interrupted and resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from math import lcm

import numpy as np

# Separates these streams from those of synthetic data sets with the same seed.
_STREAM = 0x7EA1


@lru_cache(maxsize=6)
def _permutation(size: int, *key: int) -> np.ndarray:
    # int32 where it suffices: 40 MB for ten million clips.
    kind = np.int32 if size < 2**31 else np.int64
    return np.random.default_rng([_STREAM, *key]).permutation(size).astype(kind)


def shuffled_index(position: int, size: int, seed: int, *stream: int) -> tuple[int, int]:
    """(epoch, index) of a position in an endless order of ``range(size)``: each epoch is a new permutation.

    Args:
        position: 0, 1, 2, ….
        size: number of samples.
        seed: of the run.
        stream: numbers that distinguish this order from others with the same seed.
    """
    epoch, place = divmod(position, size)
    return epoch, int(_permutation(size, seed, *stream, epoch)[place])


def integer_weights(weights: Sequence[float]) -> list[int]:
    """Weights scaled to integers in the same ratios, as written in decimal: 0.1 and 0.2 become 1 and 2."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    return [int(weight * scale) for weight in exact]


def interleaved(position: int, weights: Sequence[int]) -> tuple[int, int]:
    """(stream, position within it) of a position in a deterministic mixture of several streams.

    The first stream's k-th element comes where its accumulated share reaches k; the other positions are split among the
    rest in the same way. Every stream has its share of the mixture from the start, wherever reading begins.

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
    """The random stream of one sample: ``place`` is e.g. (epoch, index)."""
    # numpy ignores trailing zeros: the length keeps (1,) and (1, 0) apart.
    return np.random.default_rng([_STREAM, seed, *place, len(place)])


class LazyRng:
    """The random stream of one sample, created on first use; a choice with one outcome draws nothing."""

    def __init__(self, place: Sequence[int]) -> None:
        self._place = place

    @cached_property
    def generator(self) -> np.random.Generator:
        """The underlying generator."""
        return rng_for(*self._place)

    def below(self, count: int) -> int:
        """A uniform integer in 0 … ``count`` - 1."""
        return int(self.generator.integers(count)) if count > 1 else 0

    def bernoulli(self, share: float) -> bool:
        """True with probability ``share``."""
        return share >= 1 or (share > 0 and float(self.generator.random()) < share)
