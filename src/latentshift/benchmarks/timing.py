"""Ways to do the same thing, timed in turns in one run, so that their ratio holds on a busy machine."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from latentshift.benchmarks.report import Estimate, Result

T = TypeVar("T")


def comparison(what: str, unit: str, rate: float, peer: float) -> Result:
    """The row of one comparison: how much a second is done of ``what``, by us and by the peer."""
    return {"what": what, "unit": unit, "rate": rate, "peer": peer, "ratio": rate / peer}


def take_turns(calls: Sequence[Callable[[int], T]], rounds: int) -> list[list[T]]:
    """What each call returned in each round, in which all of them take turns.

    Args:
        calls: each gets the number of the round, from 0 on.
        rounds: how often each is called.
    """
    results: list[list[T]] = [[] for _ in calls]
    for number in range(rounds):
        for kept, call in zip(results, calls, strict=True):
            kept.append(call(number))
    return results


def interleaved_timing(
    calls: Sequence[Callable[[int], None]], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Calls a second of each, timed in turns after one round of warm-up.

    Args:
        calls: each gets the number of the round.
        rounds: that are timed.
        clock: of processor time, or of the wall.
    """
    return [rounds / sum(seconds) for seconds in interleaved_seconds(calls, rounds, clock)]


def interleaved_seconds(
    calls: Sequence[Callable[[int], None]], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[list[float]]:
    """Seconds of each call in each round, for calls that are timed as by :func:`interleaved_timing`."""

    def timed(call: Callable[[int], None]) -> Callable[[int], float]:
        def seconds(number: int) -> float:
            start = clock()
            call(number)
            return clock() - start

        return seconds

    return [seconds[1:] for seconds in take_turns([timed(call) for call in calls], rounds + 1)]


def spread(seconds: Sequence[float]) -> Estimate:
    """The median, with the lowest and the highest as bounds."""
    return Estimate(statistics.median(seconds), min(seconds), max(seconds))


def median_interval(values: Sequence[float]) -> Estimate:
    """The median with its 95 % interval, whatever the distribution: between two of the values, by their order.

    Fewer than six values have no such interval: their lowest and highest are the bounds.
    """
    ordered, n = sorted(values), len(values)
    outside = 0  # how many values lie below the interval, and as many above
    while 2 * sum(math.comb(n, k) for k in range(outside + 1)) <= 0.05 * 2**n:
        outside += 1
    outside = max(outside - 1, 0)
    return Estimate(statistics.median(ordered), ordered[outside], ordered[n - 1 - outside])
