"""The page of one or several results: tables, plots, clips, and the settings behind every number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latentshift.evaluation.report.common_blocks import key_number, rejected_blocks, settings_blocks
from latentshift.evaluation.report.comparability import comparability_warnings
from latentshift.evaluation.report.document import Block, Document, Facts, Heading, KeyNumbers, Warnings
from latentshift.evaluation.report.example_clips import best_and_worst, side_by_side_clips
from latentshift.evaluation.report.glossary import INTERVAL, meanings
from latentshift.evaluation.report.own_numbers import own_numbers
from latentshift.evaluation.report.paper_comparison import paper_plots, paper_table, paper_tables_for
from latentshift.evaluation.report.results import PROTOCOLS, Result
from latentshift.evaluation.report.sprites_words import MEANINGS as SPRITES_MEANINGS

_MOST_KEY_NUMBERS = 6


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
            *own_numbers(results),
            *side_by_side_clips(results),
            *best_and_worst(results),
            *rejected_blocks(results),
            *_meanings(results),
            *settings_blocks(results),
        ),
    )


def _warnings(results: Sequence[Result]) -> Iterator[Block]:
    sentences = comparability_warnings(results)
    for result in results:
        metrics_of: dict[str, list[str]] = {}
        for metric in result.report.metrics:
            for sentence in metric.warnings:
                metrics_of.setdefault(sentence, []).append(metric.name)
        notes = [f"{', '.join(names)}: {sentence}" for sentence, names in metrics_of.items()]
        notes += result.report.notes
        sentences += [f"{result.label}: {each}" if len(results) > 1 else each for each in notes]
    if sentences:
        yield Warnings(tuple(sentences))


def _key_numbers(result: Result) -> Iterator[Block]:
    if result.report.metrics:
        yield KeyNumbers(tuple(key_number(metric, result) for metric in result.report.metrics[:_MOST_KEY_NUMBERS]))


def _paper(results: Sequence[Result]) -> Iterator[Block]:
    tables = paper_tables_for(results)
    if tables:
        yield Heading("Beside the paper")
    for table in tables:
        yield paper_table(table, results)
        yield from paper_plots(table, results)


def _meanings(results: Sequence[Result]) -> Iterator[Block]:
    items = dict(meanings([metric.name for result in results for metric in result.report.metrics]))
    if any(result.report.protocol == "sprites" for result in results):
        items |= dict(SPRITES_MEANINGS)
    if items:
        yield Heading("What the numbers mean")
        yield Facts("Each in a sentence", tuple((items | {"interval": INTERVAL}).items()))
