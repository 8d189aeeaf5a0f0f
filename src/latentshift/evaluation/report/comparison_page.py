"""The page of one or several results: tables, plots, clips, and the settings behind every number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from latentshift.evaluation.report.comparability import are_comparable, comparability_warnings
from latentshift.evaluation.report.document import (
    Block,
    Clip,
    Clips,
    Code,
    Document,
    Facts,
    Heading,
    KeyNumber,
    KeyNumbers,
    Paragraph,
    Warnings,
)
from latentshift.evaluation.report.glossary import INTERVAL, meanings
from latentshift.evaluation.report.numbers import ARROWS, format_interval, format_number
from latentshift.evaluation.report.paper_comparison import paper_plots, paper_table, paper_tables_for
from latentshift.evaluation.report.plot import Plot, PlotRow
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import Example, Metric
from latentshift.evaluation.report.sprites_numbers import motions_compared
from latentshift.evaluation.report.sprites_parts import study_parts
from latentshift.evaluation.report.sprites_words import MEANINGS as SPRITES_MEANINGS
from latentshift.evaluation.report.table import Cell, Table, number_cell

PROTOCOLS = {
    "msrvtt": "MSR-VTT",
    "ucf101": "UCF-101",
    "folder": "Folders of clips",
    "sprites": "Sprites",
    "cost": "Cost",
}
# Protocol -> beginnings of the names of metrics that have plots, where all of them would be too many.
_PLOTTED = {"sprites": ("all right", "motion", "colour drift")}
_MOST_REJECTED = 200  # of a list; report.json has all
_BOLD = "Bold: the best, where no other interval overlaps its own and nothing but the system differs."
_MOST_PROMPTS = 8  # played side by side


def comparison_page(results: Sequence[Result]) -> Document:
    """One page for all results, which may be of different protocols."""
    labels = ", ".join(result.label for result in results)
    protocols = ", ".join(dict.fromkeys(PROTOCOLS[result.report.protocol] for result in results))
    return Document(
        f"{protocols}: {labels}",
        f"{len(results)} results side by side." if len(results) > 1 else f"One result: {results[0].label}.",
        (
            *_warnings(results),
            *(_key_numbers(results[0]) if len(results) == 1 else ()),
            *_paper(results),
            *_own_numbers(results),
            *side_by_side_clips(results),
            *_examples(results),
            *rejected_blocks(results),
            *_meanings(results),
            *settings_blocks(results),
        ),
    )


def _warnings(results: Sequence[Result]) -> Iterator[Block]:
    sentences = comparability_warnings(results)
    for result in results:
        said = [
            each for metric in result.report.metrics for each in map(f"{metric.name}: {{}}".format, metric.warnings)
        ]
        said += result.report.notes
        sentences += [f"{result.label}: {each}" if len(results) > 1 else each for each in dict.fromkeys(said)]
    if sentences:
        yield Warnings(tuple(sentences))


def _key_numbers(result: Result) -> Iterator[Block]:
    if result.report.metrics:
        yield KeyNumbers(tuple(key_number(metric, result) for metric in result.report.metrics[:6]))


def key_number(metric: Metric, result: Result, label: str = "") -> KeyNumber:
    """A metric as a number to be seen first."""
    interval = format_interval(metric.value, metric.interval, metric.unit)
    note = ", ".join(each for each in (interval, f"N = {metric.n:,}") if each)
    unit = f" {metric.unit}" if metric.unit else ""
    name = label or f"{metric.name}{ARROWS[metric.better]}"
    return KeyNumber(f"{format_number(metric.value, metric.unit)}{unit}", name, note, result.anchor)


def _paper(results: Sequence[Result]) -> Iterator[Block]:
    tables = paper_tables_for(results)
    if tables:
        yield Heading("Beside the paper")
    for table in tables:
        yield paper_table(table, results)
        yield from paper_plots(table, results)


def _own_numbers(results: Sequence[Result]) -> Iterator[Block]:
    yield Heading("All numbers")
    for protocol, group in groupby(sorted(results, key=_protocol), key=_protocol):
        members = list(group)
        metrics = list(dict.fromkeys(metric.name for each in members for metric in each.report.metrics))
        if not metrics:
            continue
        rows = tuple(_metric_row(name, members) for name in metrics)
        columns = ("Metric", *(each.label for each in members), "N")
        yield Table(
            f"{protocol}-all", PROTOCOLS[protocol], columns, rows, (INTERVAL, *([_BOLD] if len(members) > 1 else []))
        )
        if len(members) > 1:
            yield from _metric_plots(protocol, metrics, members)
        if protocol == "sprites" and len(members) > 1:
            yield from motions_compared([(each, study_parts(each)) for each in members])
        yield Facts(
            f"How the numbers of {PROTOCOLS[protocol]} were made",
            tuple(_how(metric, each, members) for each in members for metric in each.report.metrics),
            folded=True,
        )


def _protocol(result: Result) -> str:
    return result.report.protocol


def _metric_row(name: str, members: Sequence[Result]) -> tuple[Cell, ...]:
    found = [each.report.metric(name) for each in members]
    there = [metric for metric in found if metric is not None]
    best = _best(there)
    cells = [
        Cell()
        if metric is None
        else number_cell(metric.value, metric.interval, metric.unit, anchor=each.anchor, strong=metric is best)
        for metric, each in zip(found, members, strict=True)
    ]
    unit = f" ({there[0].unit})" if there[0].unit else ""
    counts = sorted({metric.n for metric in there})
    return Cell(f"{name}{unit}{ARROWS[there[0].better]}"), *cells, Cell(" / ".join(f"{n:,}" for n in counts))


def _best(metrics: Sequence[Metric]) -> Metric | None:
    """The best of several that may be compared, if no other's interval reaches into its own; else None."""
    if len(metrics) < 2 or metrics[0].better == "neither" or not are_comparable(metrics):
        return None
    lower = metrics[0].better == "lower"
    ranked = sorted(metrics, key=lambda metric: metric.value if lower else -metric.value)
    bounds = [metric.interval or (metric.value, metric.value) for metric in ranked]
    apart = all(bounds[0][1] < each[0] if lower else bounds[0][0] > each[1] for each in bounds[1:])
    return ranked[0] if apart else None


def _metric_plots(protocol: str, metrics: Sequence[str], members: Sequence[Result]) -> Iterator[Plot]:
    for name in metrics:
        if not name.startswith(_PLOTTED.get(protocol, "")):
            continue
        found = [(each, metric) for each in members if (metric := each.report.metric(name))]
        if len(found) < 2:
            continue
        unit = found[0][1].unit
        slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
        rows = tuple(
            PlotRow(each.label, metric.value, metric.interval, note=f"N = {metric.n:,}") for each, metric in found
        )
        share = unit == "%"
        title = f"{name}{ARROWS[found[0][1].better]}"
        yield Plot(f"{protocol}-{slug}", title, rows, unit, bars=share, end=100.0 if share else None)


def _how(metric: Metric, result: Result, members: Sequence[Result]) -> tuple[str, str]:
    rows = f"{metric.samples:,} samples" if metric.samples != metric.n else ""
    facts = (
        f"N = {metric.n:,}",
        rows,
        f"{metric.n_reference:,} reference videos" if metric.n_reference else "",
        f"{metric.frames} frames" if metric.frames else "",
        metric.size or "",
        metric.resize,
        f"extractor {metric.extractor}" if metric.extractor else "",
        f"SHA-256 {metric.extractor_sha256}" if metric.extractor_sha256 else "",
        metric.variant,
        f"interval: {metric.interval_kind}" if metric.interval else "",
    )
    name = f"{metric.name}, {result.label}" if len(members) > 1 else metric.name
    return name, "; ".join(fact for fact in facts if fact)


def side_by_side_clips(results: Sequence[Result]) -> Iterator[Block]:
    """Clips of the prompts that several results show, a column a system."""
    shown: list[dict[str, Example]] = [{} for _ in results]
    for result, examples in zip(results, shown, strict=True):
        for example in result.report.videos:
            if example.prompt and example.file:
                examples.setdefault(example.prompt, example)
    counts = Counter(prompt for examples in shown for prompt in examples)
    common = [prompt for prompt, times in counts.items() if times > 1][:_MOST_PROMPTS]
    if not common:
        return
    taking_part = [
        (result, examples)
        for result, examples in zip(results, shown, strict=True)
        if any(prompt in examples for prompt in common)
    ]
    yield Heading("The same prompts side by side")
    for prompt in common:
        yield Heading(prompt, 3)
        yield Clips(
            tuple(
                Clip(result.clip(examples[prompt]) if prompt in examples else None, result.label)
                for result, examples in taking_part
            ),
            columns=len(taking_part),
            pixelated=any(result.pixelated for result, _ in taking_part),
        )


def _examples(results: Sequence[Result]) -> Iterator[Block]:
    with_examples = [result for result in results if result.report.videos]
    if with_examples:
        yield Heading("The best and the worst")
        yield Paragraph("By the first number under each clip: the best first, the worst last.")
    for result in with_examples:
        if len(results) > 1:
            yield Heading(result.label, 3)
        clips = tuple(
            Clip(result.clip(each), each.prompt or f"video {each.index}", _values(each))
            for each in result.report.videos
        )
        yield Clips(clips, pixelated=result.pixelated)


def _values(example: Example) -> str:
    told = [f"{name} {format_number(value)}" for name, value in example.values.items()]
    return ", ".join([*told, *([] if example.seed is None else [f"seed {example.seed}"])])


def rejected_blocks(results: Sequence[Result]) -> Iterator[Block]:
    """What could not be used, if there is any."""
    found = [(result, result.report.rejected) for result in results if result.report.rejected]
    if not found:
        return
    yield Heading("What could not be used")
    for result, rejected in found:
        more = len(rejected) - _MOST_REJECTED
        items = [(each.file, each.reason) for each in rejected[:_MOST_REJECTED]]
        if more > 0:
            items.append(("…", f"and {more:,} more, in report.json"))
        yield Facts(f"{result.label}: {len(rejected):,}", tuple(items), folded=len(items) > 10)


def _meanings(results: Sequence[Result]) -> Iterator[Block]:
    items = dict(meanings([metric.name for result in results for metric in result.report.metrics]))
    if any(result.report.protocol == "sprites" for result in results):
        items |= dict(SPRITES_MEANINGS)
    if items:
        yield Heading("What the numbers mean")
        yield Facts("Each in a sentence", tuple((items | {"interval": INTERVAL}).items()))


def settings_blocks(results: Sequence[Result]) -> Iterator[Block]:
    """The settings behind every number, and the commands that make it again."""
    yield Heading("Settings")
    for result in results:
        yield result.settings()
        yield Code(result.report.command)
