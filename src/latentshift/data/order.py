"""The order in which samples are seen, and each sample's own randomness: functions of (seed, epoch, index) alone.

So neither depends on the batch size, on the number of workers, or on where a run was stopped and taken up again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

# Sets these streams apart from those that a data set draws its own samples from, whatever its seed.
_STREAM = 0x7EA1


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([_STREAM, seed, epoch]).permutation(size)


def shuffled(size: int, seed: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Endless (epoch, index) pairs, each epoch a new permutation of ``range(size)``, from position ``start`` on."""
    position = start
    while True:
        epoch, place = divmod(position, size)
        yield epoch, int(_permutation(size, seed, epoch)[place])
        position += 1


def draws(seed: int, *place: int) -> np.random.Generator:
    """The random stream of one place in a run: a sample (epoch, index)."""
    # numpy takes no notice of zeros at the end: the last number keeps (1,) and (1, 0) apart.
    return np.random.default_rng([_STREAM, seed, *place, len(place)])
