"""Ways to do the same thing, timed in turns in one run, so that their ratio holds on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from latentshift.benchmarks.report import Result


def comparison(what: str, unit: str, rate: float, peer: float) -> Result:
    """The row of one comparison: how much a second is done of ``what``, by us and by the peer."""
    return {"what": what, "unit": unit, "rate": rate, "peer": peer, "ratio": rate / peer}


def interleaved_timing(
    calls: Sequence[Callable[[int], None]], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Calls a second of each, timed in turns after one round of warm-up.

    Args:
        calls: each gets the number of the round.
        rounds: that are timed.
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
