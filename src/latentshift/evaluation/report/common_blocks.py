"""Blocks that all pages have: numbers to be seen first, what could not be used, and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latentshift.document.blocks import Block, Code, Facts, Heading, KeyNumber
from latentshift.document.numbers import ARROWS, format_count, format_interval, format_number
from latentshift.evaluation.report.part_names import shown_name
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import Metric

_MOST_REJECTED = 200  # of a list; report.json has all


def key_number(metric: Metric, result: Result, marks: tuple[int, ...] = ()) -> KeyNumber:
    """A metric as a number to be seen first, with the marks of its warnings."""
    interval = format_interval(metric.value, metric.interval, metric.unit)
    note = ", ".join(each for each in (interval, f"N = {format_count(metric.n, metric.repeats)}") if each)
    unit = f" {metric.unit}" if metric.unit else ""
    name = f"{shown_name(metric.name)}{ARROWS[metric.better]}"
    return KeyNumber(f"{format_number(metric.value, metric.unit)}{unit}", name, note, result.anchor, marks)


def rejected_blocks(results: Sequence[Result]) -> Iterator[Block]:
    """What could not be used, if there is any."""
    with_rejected = [(result, result.report.rejected) for result in results if result.report.rejected]
    if not with_rejected:
        return
    yield Heading("What could not be used")
    for result, rejected in with_rejected:
        more = len(rejected) - _MOST_REJECTED
        items = [(each.file, each.reason) for each in rejected[:_MOST_REJECTED]]
        if more > 0:
            items.append(("…", f"and {more:,} more, in report.json"))
        yield Facts(f"{result.label}: {len(rejected):,}", tuple(items), folded=len(items) > 10)


def settings_blocks(results: Sequence[Result]) -> Iterator[Block]:
    """The settings behind every number, and the commands that make it again."""
    yield Heading("Settings")
    for result in results:
        yield result.settings()
        if result.report.command:
            yield Code(result.report.command)
