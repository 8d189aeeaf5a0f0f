"""The clips on a page of results: the same prompts side by side, the best and the worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from latentshift.document.blocks import Block, Clip, Clips, Heading, Paragraph
from latentshift.document.numbers import format_number
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import Example

_RANKINGS = ("CLIPSIM", "PSNR", "share right")  # values of examples by which they are the best or the worst
_MOST_PROMPTS = 8  # played side by side


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


def best_and_worst(results: Sequence[Result]) -> Iterator[Block]:
    """The examples of each result."""
    with_examples = [result for result in results if result.report.videos]
    if with_examples:
        yield Heading("The best and the worst")
    for result in with_examples:
        videos = result.report.videos
        ranking = next((name for name in _RANKINGS if name in videos[0].values), None)
        if len(results) > 1:
            yield Heading(result.label, 3)
        words = f"The best by {ranking} first, the worst last." if ranking else "The first ones: none is called good."
        yield Paragraph(words)
        clips = (
            Clip(result.clip(each), each.prompt or each.source or f"video {each.index}", _values(each, ranking))
            for each in videos
        )
        yield Clips(tuple(clips), pixelated=result.pixelated)


def _values(example: Example, ranking: str | None) -> str:
    names = sorted(example.values, key=lambda name: name != ranking)
    shown = [f"{name} {format_number(example.values[name])}" for name in names]
    return ", ".join([*shown, *([] if example.seed is None else [f"seed {example.seed}"])])
