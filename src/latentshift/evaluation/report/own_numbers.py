"""The numbers of the results themselves: tables, plots, and how each was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from latentshift.document.blocks import Block, Facts, Heading
from latentshift.document.numbers import ARROWS, format_count, format_number
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.comparability import are_comparable
from latentshift.evaluation.report.cost_passes import pass_tables
from latentshift.evaluation.report.glossary import INTERVAL
from latentshift.evaluation.report.page_warnings import PageWarnings
from latentshift.evaluation.report.part_names import shown_name
from latentshift.evaluation.report.results import PROTOCOLS, Result
from latentshift.evaluation.report.schema import Metric
from latentshift.evaluation.report.sprites.numbers import motions_compared
from latentshift.evaluation.report.sprites.parts import study_parts

# Protocol -> beginnings of the names of metrics that have plots, where all of them would be too many.
_PLOTTED = {"sprites": ("all right", "motion", "colour drift", "sprites-FVD")}
_BOLD = "Bold: the best, where no other interval overlaps its own and nothing but the system differs."


def own_numbers(results: Sequence[Result], warnings: PageWarnings) -> Iterator[Block]:
    """Every metric of every result, a table a protocol, and how each number was made."""
    yield Heading("All numbers")
    for protocol, group in groupby(sorted(results, key=_protocol), key=_protocol):
        members = list(group)
        metrics = list(dict.fromkeys(metric.name for each in members for metric in each.report.metrics))
        if not metrics:
            continue
        rows = tuple(_metric_row(name, members, warnings) for name in metrics)
        columns = ("Metric", *(each.label for each in members), "N")
        notes = (*([] if protocol == "cost" else [INTERVAL]), *([_BOLD] if len(members) > 1 else []))
        yield Table(f"{protocol}-all", PROTOCOLS[protocol], columns, rows, notes)
        if len(members) > 1:
            yield from _metric_plots(protocol, metrics, members, warnings)
        if protocol == "sprites" and len(members) > 1:
            yield from motions_compared([(each, study_parts(each)) for each in members], warnings)
        if protocol == "cost":
            yield from pass_tables(members)
        yield Facts(
            f"How the numbers of {PROTOCOLS[protocol]} were made",
            tuple(_how(metric, each, members) for each in members for metric in each.report.metrics),
            folded=True,
        )


def _protocol(result: Result) -> str:
    return result.report.protocol


def _metric_row(name: str, members: Sequence[Result], warnings: PageWarnings) -> tuple[Cell, ...]:
    metrics = [each.report.metric(name) for each in members]
    measured = [metric for metric in metrics if metric is not None]
    best = _best(measured) if are_comparable(name, members) else None
    cells = [
        Cell()
        if metric is None
        else number_cell(
            metric.value,
            metric.interval,
            metric.unit,
            anchor=each.anchor,
            strong=metric is best,
            marks=warnings.marks(each.label, name),
        )
        for metric, each in zip(metrics, members, strict=True)
    ]
    unit = f" ({measured[0].unit})" if measured[0].unit else ""
    counts = dict.fromkeys(
        format_count(metric.n, metric.repeats) for metric in sorted(measured, key=lambda each: each.n)
    )
    return Cell(f"{shown_name(name)}{unit}{ARROWS[measured[0].better]}"), *cells, Cell(" / ".join(counts))


def _best(metrics: Sequence[Metric]) -> Metric | None:
    """The best of several, if each has an interval and no other's reaches into its own; else None."""
    if len(metrics) < 2 or metrics[0].better == "neither" or not all(metric.interval for metric in metrics):
        return None
    lower = metrics[0].better == "lower"
    best = min(metrics, key=lambda metric: metric.value if lower else -metric.value)
    low, high = best.interval or (best.value, best.value)
    others = [metric.interval for metric in metrics if metric is not best and metric.interval]
    return best if all(high < other[0] if lower else low > other[1] for other in others) else None


def _metric_plots(
    protocol: str, metrics: Sequence[str], members: Sequence[Result], warnings: PageWarnings
) -> Iterator[Plot]:
    for name in metrics:
        if not name.startswith(_PLOTTED.get(protocol, "")):
            continue
        measured = [(each, metric) for each in members if (metric := each.report.metric(name))]
        if len(measured) < 2:
            continue
        unit = measured[0][1].unit
        slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
        rows = tuple(
            PlotRow(
                each.label,
                metric.value,
                metric.interval,
                note=f"N = {format_count(metric.n, metric.repeats)}",
                marks=warnings.marks(each.label, name),
            )
            for each, metric in measured
        )
        share = unit == "%"
        title = f"{shown_name(name)}{ARROWS[measured[0][1].better]}"
        yield Plot(f"{protocol}-{slug}", title, rows, unit, bars=share, end=100.0 if share else None)


def how_made(metric: Metric) -> str:
    """What a number rests on, in one line."""
    facts = (
        f"N = {format_count(metric.n, metric.repeats)}",
        f"{metric.samples:,} samples" if metric.samples != metric.n else "",
        f"{metric.n_reference:,} reference videos" if metric.n_reference else "",
        f"{metric.frames} frames" if metric.frames else "",
        metric.size or "",
        metric.resize,
        f"extractor {metric.extractor}" if metric.extractor else "",
        f"SHA-256 {metric.extractor_sha256}" if metric.extractor_sha256 else "",
        metric.variant,
        "" if metric.deviation is None else f"population standard deviation {format_number(metric.deviation)}",
        f"interval: {metric.interval_kind}" if metric.interval else "",
    )
    return "; ".join(fact for fact in facts if fact)


def _how(metric: Metric, result: Result, members: Sequence[Result]) -> tuple[str, str]:
    name = shown_name(metric.name)
    return f"{name}, {result.label}" if len(members) > 1 else name, how_made(metric)
