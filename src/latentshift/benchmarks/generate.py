"""``bench generate``: one U-Net pass and a whole video of each compared video model, beside each other in one run."""

from __future__ import annotations

from collections.abc import Iterator

from latentshift.benchmarks.generation_cost import count_all, measure
from latentshift.benchmarks.generation_rows import count_rows, time_rows
from latentshift.benchmarks.generation_settings import BASES, GenerationSettings
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.start import start_rows


def bench_generate(settings: GenerationSettings) -> Iterator[Result]:
    """Counts; passes, text, decoding and whole videos; and, of a saved model, cold and warm start.

    Raises:
        ValueError: for a base that can't be read or that a video model can't be built like, or if a process ended
            without an answer, as for lack of memory.
    """
    counts = count_all(settings)
    yield from count_rows(settings, counts)
    yield from time_rows(counts, measure(settings))
    if settings.base not in BASES:  # those have no weights here
        yield from start_rows(settings)
