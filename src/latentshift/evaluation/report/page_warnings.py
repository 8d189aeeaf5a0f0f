"""The warnings of a page: each once and with a number, which the numbers that it is about bear as a mark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from latentshift.document.blocks import PageWarning
from latentshift.evaluation.report.comparability import BIAS, counts_differ, differences
from latentshift.evaluation.report.part_names import shown_name
from latentshift.evaluation.report.results import Result

Name = tuple[str, str]  # of a number: the label of its result, and what it is called there


class PageWarnings:
    """Collects warnings in the order of their numbers."""

    def __init__(self) -> None:
        self._all: list[PageWarning] = []
        self._marks: dict[Name, list[int]] = {}

    def add(self, text: str, about: str = "", names: Iterable[Name] = ()) -> tuple[int, ...]:
        """Add a warning about some numbers, or with none of the whole; returns its mark."""
        self._all.append(PageWarning(text, about))
        mark = len(self._all)
        for name in names:
            self._marks.setdefault(name, []).append(mark)
        return (mark,)

    def marks(self, label: str, name: str) -> tuple[int, ...]:
        """Those that a number bears."""
        return tuple(dict.fromkeys(self._marks.get((label, name), ())))

    def all(self) -> tuple[PageWarning, ...]:
        """For the page."""
        return tuple(self._all)


def add_results(warnings: PageWarnings, results: Sequence[Result], *, named: bool) -> None:
    """Add what keeps results from being compared, then the warnings of their metrics and their notes.

    Args:
        results: of the page.
        named: whether the page shows several, so that each warning names its result.
    """
    found = differences(results)
    explained = False
    for each in found:
        text = each.sentence
        if not explained and counts_differ([each]):
            text, explained = f"{text} {BIAS}", True
        warnings.add(text, names=[(label, metric) for label in each.labels for metric in each.metrics])
    for result in results:
        before, behind = (f"{result.label}: ", f" of {result.label}") if named else ("", "")
        for sentence, metrics in result.report.metrics_by_warning().items():
            names = ", ".join(map(shown_name, metrics))
            warnings.add(sentence, f"{names}{behind}", [(result.label, name) for name in metrics])
        for note in result.report.notes:
            warnings.add(f"{before}{note}")
        if count := len(result.report.rejected):
            plural = "files or captions" if count > 1 else "file or caption"
            warnings.add(f"{before}{count:,} {plural} could not be used: “What could not be used” says which and why.")
