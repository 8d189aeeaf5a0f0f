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
from latentshift.evaluation.report.paper_tables import TABLE_3
from latentshift.evaluation.report.results import PROTOCOLS, Result
from latentshift.evaluation.report.sprites_words import MEANINGS as SPRITES_MEANINGS
from latentshift.evaluation.report.user_study import UserStudy, share_plots, share_table

_MOST_KEY_NUMBERS = 6


def comparison_page(results: Sequence[Result], studies: Sequence[UserStudy] = ()) -> Document:
    """One page for all results, which may be of different protocols, and for user studies; one of them at least."""
    labels = [*(result.label for result in results), *(str(study.folder) for study in studies)]
    kinds = [*(PROTOCOLS[result.report.protocol] for result in results), *("User study" for _ in studies)]
    lead = f"{len(labels)} results side by side." if len(labels) > 1 else f"One result: {labels[0]}."
    return Document(
        f"{', '.join(dict.fromkeys(kinds))}: {', '.join(labels)}",
        lead,
        (
            *_warnings(results, studies),
            *(_key_numbers(results[0]) if len(results) == 1 else ()),
            *_paper(results, studies),
            *(own_numbers(results) if results else ()),
            *side_by_side_clips(results),
            *best_and_worst(results),
            *rejected_blocks(results),
            *_meanings(results),
            *settings_blocks(results),
            *(study.facts for study in studies),
        ),
    )


def _warnings(results: Sequence[Result], studies: Sequence[UserStudy]) -> Iterator[Block]:
    sentences = comparability_warnings(results)
    for result in results:
        metrics_of: dict[str, list[str]] = {}
        for metric in result.report.metrics:
            for sentence in metric.warnings:
                metrics_of.setdefault(sentence, []).append(metric.name)
        notes = [f"{', '.join(names)}: {sentence}" for sentence, names in metrics_of.items()]
        notes += result.report.notes
        sentences += [f"{result.label}: {each}" if len(results) + len(studies) > 1 else each for each in notes]
    sentences += [f"{study.folder}: {note}" for study in studies for note in study.notes]
    if sentences:
        yield Warnings(tuple(sentences))


def _key_numbers(result: Result) -> Iterator[Block]:
    if result.report.metrics:
        yield KeyNumbers(tuple(key_number(metric, result) for metric in result.report.metrics[:_MOST_KEY_NUMBERS]))


def _paper(results: Sequence[Result], studies: Sequence[UserStudy]) -> Iterator[Block]:
    tables = paper_tables_for(results)
    if tables or studies:
        yield Heading("Beside the paper")
    for table in tables:
        yield paper_table(table, results)
        yield from paper_plots(table, results)
    if studies:
        shares = [study.shares for study in studies]
        yield share_table(shares, f"table-{TABLE_3.number}", f"Table {TABLE_3.number}: {TABLE_3.title}")
        yield from share_plots(shares)


def _meanings(results: Sequence[Result]) -> Iterator[Block]:
    items = dict(meanings([metric.name for result in results for metric in result.report.metrics]))
    if any(result.report.protocol == "sprites" for result in results):
        items |= dict(SPRITES_MEANINGS)
    if items:
        yield Heading("What the numbers mean")
        yield Facts("Each in a sentence", tuple((items | {"interval": INTERVAL}).items()))
