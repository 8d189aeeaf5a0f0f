"""The page of one or several results: tables, plots, clips, and the settings behind every number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from latentshift.document.blocks import Block, Document, Facts, Heading, KeyNumbers
from latentshift.evaluation.report.common_blocks import key_number, rejected_blocks, settings_blocks
from latentshift.evaluation.report.example_clips import best_and_worst, side_by_side_clips
from latentshift.evaluation.report.glossary import INTERVAL, meanings
from latentshift.evaluation.report.own_numbers import own_numbers
from latentshift.evaluation.report.page_warnings import PageWarnings, add_results
from latentshift.evaluation.report.paper_comparison import paper_plots, paper_table, paper_tables_for
from latentshift.evaluation.report.paper_tables import TABLE_3
from latentshift.evaluation.report.results import PROTOCOLS, Result
from latentshift.evaluation.report.sprites.few_videos import add_few_videos
from latentshift.evaluation.report.sprites.parts import has_parts, study_parts
from latentshift.evaluation.report.sprites.words import MEANINGS as SPRITES_MEANINGS
from latentshift.evaluation.report.user_study import UserStudy, share_plots, share_table

_MOST_KEY_NUMBERS = 6


def comparison_page(results: Sequence[Result], studies: Sequence[UserStudy] = ()) -> Document:
    """One page for all results, which may be of different protocols, and for user studies; one of them at least."""
    labels = [*(result.label for result in results), *(str(study.folder) for study in studies)]
    warnings = PageWarnings()
    named = len(labels) > 1
    for result in results:
        if has_parts(result):
            add_few_videos(warnings, result, study_parts(result), named=named)
    add_results(warnings, results, named=named)
    studies = [_marked(study, warnings) for study in studies]
    kinds = [*(PROTOCOLS[result.report.protocol] for result in results), *("User study" for _ in studies)]
    lead = f"{len(labels)} results side by side." if named else f"One result: {labels[0]}."
    return Document(
        f"{', '.join(dict.fromkeys(kinds))}: {', '.join(labels)}",
        lead,
        (
            *(_key_numbers(results[0], warnings) if len(results) == 1 else ()),
            *_paper(results, studies, warnings),
            *(own_numbers(results, warnings) if results else ()),
            *side_by_side_clips(results),
            *best_and_worst(results),
            *rejected_blocks(results),
            *_meanings(results),
            *settings_blocks(results),
            *(study.facts for study in studies),
        ),
        warnings.all(),
    )


def _marked(study: UserStudy, warnings: PageWarnings) -> UserStudy:
    """The study, whose rows bear the marks of its notes."""
    marks = [mark for note in study.notes for mark in warnings.add(f"{study.folder}: {note}")]
    return replace(study, shares=replace(study.shares, marks=tuple(marks)))


def _key_numbers(result: Result, warnings: PageWarnings) -> Iterator[Block]:
    if result.report.metrics:
        shown = result.report.metrics[:_MOST_KEY_NUMBERS]
        yield KeyNumbers(tuple(key_number(each, result, warnings.marks(result.label, each.name)) for each in shown))


def _paper(results: Sequence[Result], studies: Sequence[UserStudy], warnings: PageWarnings) -> Iterator[Block]:
    tables = paper_tables_for(results)
    if tables or studies:
        yield Heading("Beside the paper")
    for table in tables:
        yield paper_table(table, results, warnings)
        yield from paper_plots(table, results, warnings)
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
