"""The page of a sprites study, for readers who have never seen one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latentshift.document.blocks import (
    Block,
    Clip,
    Clips,
    Document,
    Facts,
    Heading,
    KeyNumber,
    KeyNumbers,
    Paragraph,
    Picture,
)
from latentshift.document.numbers import format_interval, percent
from latentshift.evaluation.estimates import wilson_interval
from latentshift.evaluation.report.common_blocks import rejected_blocks, settings_blocks
from latentshift.evaluation.report.glossary import meanings
from latentshift.evaluation.report.page_warnings import PageWarnings, add_results
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import name_in_part
from latentshift.evaluation.report.sprites.distances import distances
from latentshift.evaluation.report.sprites.few_videos import add_few_videos
from latentshift.evaluation.report.sprites.numbers import motions, shares, steadiness
from latentshift.evaluation.report.sprites.parts import ReadExample, StudyPart, study_parts
from latentshift.evaluation.report.sprites.words import (
    MEANINGS,
    QUESTION,
    SHARES,
    part_explained,
    part_title,
    videos_of,
)
from latentshift.models.storage.model_paths import BUNDLED

_FEW_OF_A_MOTION = 10  # videos; fewer don't say that one motion is the best or the worst
_KINDS = {
    "first": "The first ones, chosen by nobody",
    "best": "The best: most of the sentence right, with the steadiest colours",
    "worst": "The worst, the very worst last",
}


def sprites_page(result: Result) -> Document:
    """The page.

    Raises:
        ValueError: if the report holds no parts of a study.
    """
    parts = study_parts(result)
    warnings = PageWarnings()
    add_few_videos(warnings, result, parts, named=False)
    add_results(warnings, [result], named=False)
    return Document(
        f"How well {'the bundled model' if result.label == BUNDLED else result.label} draws sprites",
        _lead(parts),
        (
            *_key_numbers(parts, result, warnings),
            Heading("What was asked"),
            Paragraph(QUESTION),
            *_drawings(parts, result),
            *(shares(parts, result, warnings) if parts else ()),
            *motions(parts, result, warnings),
            *steadiness(parts, result, warnings),
            *distances(parts, result, warnings),
            Heading("What the numbers mean"),
            Facts("Each in a sentence", (*MEANINGS, *meanings([metric.name for metric in result.report.metrics]))),
            *rejected_blocks([result]),
            *settings_blocks([result]),
        ),
        warnings.all(),
    )


def _lead(parts: Sequence[StudyPart]) -> str:
    if not parts:
        return "No videos were asked for."
    first = parts[0]
    right = round(first.joint * first.n)
    low, high = wilson_interval(right, first.n)
    lead = (
        f"{right:,} of {first.n:,} {videos_of(first)} ({100 * first.joint:.0f} %) show everything that their sentence "
        f"asks for; with other prompts of the kind it would be between {100 * low:.0f} and {100 * high:.0f} %."
    )
    enough = {name: scores for name, scores in first.motions.items() if scores.n >= _FEW_OF_A_MOTION}
    rates = {name: scores.motion for name, scores in enough.items() if scores.motion is not None}
    if rates and min(rates.values()) < max(rates.values()):
        best, worst = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
        lead += f" It moves best when asked for “{best}”, and worst for “{worst}”."
    return lead


def _key_numbers(parts: Sequence[StudyPart], result: Result, warnings: PageWarnings) -> Iterator[Block]:
    numbers = []
    for part in parts:
        interval = format_interval(100 * part.joint, percent(part.interval("joint")), "%")
        label = f"all right: {part_title(part).lower()}"
        note = f"{interval}, N = {part.n:,}"
        marks = warnings.marks(result.label, name_in_part(SHARES["joint"], part.part.name))
        numbers.append(KeyNumber(f"{100 * part.joint:.1f} %", label, note, result.anchor, marks))
    if numbers:
        yield KeyNumbers(tuple(numbers))


def _drawings(parts: Sequence[StudyPart], result: Result) -> Iterator[Block]:
    if parts:
        yield Heading("What the model drew")
    for part in parts:
        yield Heading(f"{part_title(part)} ({part.n:,})", 3)
        yield Paragraph(part_explained(part))
        if part.part.shift:
            for kind, words in _KINDS.items():
                examples = part.examples.get(kind, ())  # type: ignore[call-overload]
                if examples:
                    shown = kind == "first"
                    if shown:
                        yield Paragraph(f"{words}:")
                    clips = tuple(_clip(each, result) for each in examples)
                    yield Clips(clips, pixelated=result.pixelated, folded="" if shown else words)
        else:
            yield from _beside_shift(part, parts, result)
        sheet = None if part.part.image else result.file(f"{part.part.name}.png")
        if sheet is not None:
            alt = "A row of frames for each of the first videos, under its prompt"
            yield Picture(sheet, alt, folded="The first ones again, frame by frame")


def _beside_shift(part: StudyPart, parts: Sequence[StudyPart], result: Result) -> Iterator[Block]:
    """The first clips without the shift, each beside the one of the same prompt and seed with it."""
    with_shift = {
        (each.prompt, each.seed): each
        for other in parts
        if other.part.shift and not other.part.image
        for examples in other.examples.values()
        for each in examples
    }
    clips: list[Clip] = []
    for each in part.examples.get("first", ()):
        twin = with_shift.get((each.prompt, each.seed))
        if twin is not None:
            clips += [_clip(twin, result, "with the shift: "), _clip(each, result, "without: ")]
    if clips:
        yield Clips(tuple(clips), columns=2, pixelated=result.pixelated)


def _clip(example: ReadExample, result: Result, before: str = "") -> Clip:
    right = f"right: {', '.join(example.right)}" if example.wrong and example.right else ""
    wrong = f"read as {', '.join(example.wrong)}" if example.wrong else ""
    caption = before + example.prompt
    return Clip(result.file(example.file), caption, good=right if example.wrong else "all right", bad=wrong)
