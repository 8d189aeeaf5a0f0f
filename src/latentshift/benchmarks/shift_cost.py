"""What the shift costs: the same U-Net with it and without it, in many short turns, with an interval of the ratio.

One thread is timed in processor time, which other programs disturb little; several in time of the wall, since waiting
threads use up processor time too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, permutations

import torch

from latentshift.benchmarks.model_parts import ModelParts
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import median_interval

_LEAST_TURNS = 15


def shift_costs(
    what: str,
    call: Callable[[ModelParts], object],
    parts: ModelParts,
    seconds: float,
    compile_parts: Callable[[ModelParts], None] | None = None,
) -> Iterator[Result]:
    """A row on one thread, and one on all threads that torch uses, if these are more.

    ``cost_percent`` is by how many percent the time with the shift is longer than the mean of two times without it, the
    median over turns. ``control_percent`` is likewise of one of these two and the other, and would be 0 on a machine
    without noise: a cost is known no better than that. Both have the 95 % interval of the median.

    Args:
        what: is called.
        call: what is timed.
        parts: a model with the shift.
        seconds: turns are taken for so long in a row, and at least 15; 0: one turn, and one thread.
        compile_parts: compiles a U-Net for the threads that there are, and so anew in each row; the control is then the
            same code once more. None: it stays as it is.
    """
    with_shift, without = parts, parts.without_shift()
    control = parts.without_shift()
    all_threads = torch.get_num_threads()
    for threads in [1, all_threads] if all_threads > 1 and seconds else [1]:
        with _threads(threads):
            if compile_parts is not None:
                with_shift, without = parts.shared(), parts.without_shift()
                control = without
                compile_parts(with_shift)
                compile_parts(without)
            clock = time.process_time if threads == 1 else time.perf_counter
            times = _turns([with_shift, without, control], call, clock, seconds)
        yield {
            "the_shift": what,
            "threads": threads,
            "clock": "processor" if threads == 1 else "wall",
            "with_s": statistics.median(on for on, _, _ in times),
            "without_s": statistics.median((off + again) / 2 for _, off, again in times),
            "cost_percent": median_interval([200 * on / (off + again) - 100 for on, off, again in times]),
            "control_percent": median_interval([100 * again / off - 100 for _, off, again in times]),
            "turns": len(times),
        }


def _turns(
    ways: list[ModelParts], call: Callable[[ModelParts], object], clock: Callable[[], float], seconds: float
) -> list[list[float]]:
    """The times of all ways in each turn, after one that is not timed; the order changes from turn to turn."""
    for way in ways:
        call(way)
    turns: list[list[float]] = []
    begun = time.perf_counter()
    for order in cycle(permutations(range(len(ways)))):
        times = [0.0] * len(ways)
        for number in order:
            start = clock()
            call(ways[number])
            times[number] = clock() - start
        turns.append(times)
        if time.perf_counter() - begun >= seconds and (len(turns) >= _LEAST_TURNS or not seconds):
            return turns
    raise AssertionError  # orders never end


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
