"""Ways of doing the same, measured in turns in one run: what a ratio is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One comparison.

    Attributes:
        what: was done.
        rate: how often a second, ours.
        peer: likewise the peer's.
    """

    what: str
    rate: float
    peer: float

    @property
    def ratio(self) -> float:
        """Ours over the peer's."""
        return self.rate / self.peer


def interleaved_timing(
    calls: Sequence[Callable[[int], None]], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Calls a second of each, measured in turns after one round that does not count.

    Args:
        calls: each is told the round.
        rounds: that count.
        clock: of processor time, or of the wall.
    """
    spent = [0.0] * len(calls)
    for number in range(rounds + 1):
        for which, call in enumerate(calls):
            start = clock()
            call(number)
            if number:
                spent[which] += clock() - start
    return [rounds / each for each in spent]
