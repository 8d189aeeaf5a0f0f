"""``bench generate``: one U-Net pass and a whole video of each compared video model, beside each other in one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from latentshift.benchmarks.generation.cost import count_all, measure
from latentshift.benchmarks.generation.exported_models import export_models
from latentshift.benchmarks.generation.rows import count_rows, export_rows, time_rows
from latentshift.benchmarks.generation.settings import GenerationSettings
from latentshift.benchmarks.generation.start import start_rows
from latentshift.benchmarks.report import Result
from latentshift.settings import FAMILIES


def bench_generate(settings: GenerationSettings) -> Iterator[Result]:
    """Counts; passes, text, decoding and whole videos; and, of a saved model, cold and warm start.

    Exports are made first, in a temporary folder.

    Raises:
        ValueError: for a base that can't be read or that a video model can't be built like, or if a process ended
            without an answer, as for lack of memory.
    """
    counts = count_all(settings)
    yield from count_rows(settings, counts)
    with TemporaryDirectory(prefix="latentshift-") as folder:
        exports, left_out = export_models(settings, counts, Path(folder))
        yield from export_rows(settings, exports, left_out)
        yield from time_rows(counts, measure(settings, exports))
    if settings.base not in FAMILIES:  # those have no weights here
        yield from start_rows(settings)
