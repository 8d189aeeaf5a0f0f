"""Why numbers of two results must not be compared as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from latentshift.evaluation.metrics.result import MetricResult, comparison_warnings
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import Metric

# Shares and plain means have no bias by N: their intervals say all.
_UNBIASED = ("Wilson", "normal distribution over videos")


def comparability_warnings(results: Sequence[Result]) -> list[str]:
    """A sentence for each metric and pair of systems that differ in more than the system; empty if there are none."""
    warnings: dict[str, None] = {}
    for one, two in combinations(results, 2):
        for metric in one.report.metrics:
            other = two.report.metric(metric.name)
            if other is not None:
                for sentence in _differences(metric, other):
                    warnings[f"{one.label} and {two.label}: {sentence}"] = None
    return list(warnings)


def are_comparable(metrics: Sequence[Metric]) -> bool:
    """Whether metrics of one name may all be compared with one another."""
    return not any(True for one, two in combinations(metrics, 2) for _ in _differences(one, two))


def _differences(one: Metric, two: Metric) -> Iterator[str]:
    unbiased = one.interval_kind == two.interval_kind and one.interval_kind in _UNBIASED
    if not unbiased:
        yield from comparison_warnings(_result(one), _result(two))
    facts = (
        ("frames", one.frames, two.frames),
        ("sizes", one.size, two.size),
        ("resize rules", one.resize, two.resize),
        ("extractors", one.extractor, two.extractor),
        ("extractors' weights", _short(one.extractor_sha256), _short(two.extractor_sha256)),
    )
    for what, first, second in facts:
        if first != second:
            yield f"{one.name} can't be compared: the {what} differ ({first or 'mixed'} and {second or 'mixed'})."


def _result(metric: Metric) -> MetricResult:
    return MetricResult(
        metric.name, metric.value, metric.n, metric.samples, metric.variant, n_reference=metric.n_reference
    )


def _short(sha256: str | None) -> str | None:
    return None if sha256 is None else f"SHA-256 {sha256[:12]}…"
