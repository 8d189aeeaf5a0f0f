"""How far a study's videos are from the true clips of the same prompts, by the shipped extractors.

FID and KID of frames, FVD and KVD of clips, computed as every protocol does, and so named ``sprites-FID`` and so on.
Knows no pipeline. Legend of shapes: F frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from latentshift.evaluation.extractors.cached_rows import with_cached_rows
from latentshift.evaluation.extractors.extractor import Extractor
from latentshift.evaluation.protocols.choice import choose_extractors
from latentshift.evaluation.protocols.measure import ExtractorInfo, Measurer
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.run import Video, Worker, measure_plan
from latentshift.evaluation.protocols.summary import Summary, summarize
from latentshift.evaluation.report.part_names import title_of_part
from latentshift.evaluation.report.schema import name_in_part
from latentshift.evaluation.sprites.parts import Part, plan_of, true_clip

FRAMES, CLIPS = "sprites-frames", "sprites-clips"


def distance_extractors(part: Part, frames: int) -> tuple[list[str], list[str]]:
    """Names of the extractors that can read a part's videos of F frames, and sentences on those that can't."""
    if part.image:
        return [FRAMES], []
    choice = choose_extractors("available", (FRAMES, CLIPS), frames)
    return choice.keys, choice.notes


def measure_true_clips(
    folder: Path, part: Part, count: int, size: int, extractors: Mapping[str, Extractor], worker: Worker
) -> None:
    """Measure this worker's share of what is left of a part's first ``count`` true clips.

    Args:
        folder: of their readings.
        part: of the study.
        count: of its videos.
        size: S.
        extractors: by key.
        worker: this process.
    """

    def make(wanted: Iterable[tuple[int, Item]]) -> Iterator[Video]:
        for index, item in wanted:
            yield index, item, true_clip(part, index, size), None

    measurer = Measurer(with_cached_rows(extractors), texts=False)  # every study has the same true clips
    items = plan_of(part, count, size)
    measure_plan(folder, items, make, measurer, worker, f"{part.name}: reference", prefix=True)


def summarize_distances(
    generated: Readings, true_clips: Path, part: Part, infos: Iterable[ExtractorInfo], *, seed: int = 0
) -> Summary:
    """The distances of a part's videos from the true clips of the same prompts.

    A video without features, as an earlier version left it, is in no distance, nor is its true clip.

    Args:
        generated: readings of the part's first videos.
        true_clips: folder of the readings of the true clips.
        part: of the study; its name stands behind that of each metric, as ``sprites-FVD (seen)``.
        infos: of the extractors.
        seed: of the intervals' resamples.

    Raises:
        ValueError: if a file of the readings is damaged.
    """
    reference = Readings(true_clips, generated.total, prefix=True)
    infos, without = list(infos), {}
    for info in infos:
        indices = generated.with_rows(info.key)
        reference.keep_rows(info.key, indices)
        missing = len(generated.measured) - len(indices)
        without[info.name] = (
            (f"{missing:,} of {len(generated.measured):,} videos have no features: an earlier version read them.",)
            if missing
            else ()
        )
    summary = summarize(generated, infos, reference, seed=seed)
    metrics = [
        each.model_copy(
            update={
                "name": name_in_part(each.name, part.name),
                "warnings": (*each.warnings, *without.get(each.extractor or "", ())),
            }
        )
        for each in summary.metrics
        if each.n_reference is not None
    ]
    return replace(summary, metrics=metrics, notes=[f"{title_of_part(part.name)}: {each}" for each in summary.notes])
