"""Why numbers of two results must not be compared as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from latentshift.evaluation.metrics.result import MetricResult, comparison_differences
from latentshift.evaluation.report.part_names import shown_name
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import Metric, name_without_part

BIAS = (
    "FID, FVD, inception scores and CMMD are biased by the number of videos, so that one model has another value at "
    "another number. KID, KVD, CLIPSIM, other means and shares are not: at any number they may be compared."
)
# Settings of a report that choose what was measured: key, what it is called, whether it matters to distances alone.
_CHOICES = (
    ("prompts_sha256", "prompts", False),
    ("seconds", "seconds of each clip", False),
    ("reference_sha256", "true videos", True),
    ("reference_seconds", "seconds of each true video", True),
    ("reference_short", "rules for short true videos", True),
)


@dataclass(frozen=True)
class Difference:
    """What keeps some numbers of two results from being compared.

    Attributes:
        labels: of the two.
        metrics: names of the numbers, one at least.
        what: as ``the frames differ (16 and 8)``.
    """

    labels: tuple[str, str]
    metrics: tuple[str, ...]
    what: str

    @property
    def sentence(self) -> str:
        """For a page."""
        *first, last = map(shown_name, self.metrics)
        names = f"{', '.join(first)} and {last}" if first else last
        return f"{' and '.join(self.labels)}: {names} can't be compared: {self.what}."


def differences(results: Sequence[Result]) -> list[Difference]:
    """What differs beside the system, for each pair of them; empty if nothing does."""
    found: dict[tuple[tuple[str, str], str], list[str]] = {}
    for one, two in combinations(results, 2):
        for metric in one.report.metrics:
            for what in _of_metric(one, two, metric.name):
                found.setdefault(((one.label, two.label), what), []).append(metric.name)
    return [Difference(labels, tuple(metrics), what) for (labels, what), metrics in found.items()]


def counts_differ(found: Sequence[Difference]) -> bool:
    """Whether a number of videos keeps any from being compared, so that ``BIAS`` is due."""
    return any(each.what.startswith(("the videos ", "the samples ", "the reference videos ")) for each in found)


def are_comparable(name: str, results: Sequence[Result]) -> bool:
    """Whether the metric of this name may be compared between all results that have it."""
    return not any(True for one, two in combinations(results, 2) for _ in _of_metric(one, two, name))


def _of_metric(first: Result, second: Result, name: str) -> Iterator[str]:
    one, two = first.report.metric(name), second.report.metric(name)
    if one is None or two is None:
        return
    yield from comparison_differences(_result(one), _result(two))
    facts = (
        ("frames", one.frames, two.frames),
        ("sizes", one.size, two.size),
        ("resize rules", one.resize, two.resize),
        ("extractors", one.extractor, two.extractor),
        ("extractors' weights", _short(one.extractor_sha256), _short(two.extractor_sha256)),
    )
    for what, ours, theirs in facts:
        if ours != theirs:
            yield f"the {what} differ ({ours or 'mixed'} and {theirs or 'mixed'})"
    for key, what, of_distances in _CHOICES:
        settings = first.report.settings, second.report.settings
        if (of_distances and one.n_reference is None) or any(key not in each for each in settings):
            continue
        if settings[0][key] != settings[1][key]:
            one_said, two_said = (_said(key, each[key]) for each in settings)
            yield f"the {what} differ ({one_said} and {two_said})"


def _result(metric: Metric) -> MetricResult:
    plain = name_without_part(metric.name)
    return MetricResult(
        plain,
        metric.value,
        metric.n,
        metric.samples,
        metric.variant,
        n_reference=metric.n_reference,
        repeats=metric.repeats,
    )


def _said(key: str, value: object) -> str:
    if value is None:
        return "all"
    return f"{_short(str(value))}" if key.endswith("_sha256") else str(value)


def _short(sha256: str | None) -> str | None:
    return None if sha256 is None else f"SHA-256 {sha256[:12]}…"
