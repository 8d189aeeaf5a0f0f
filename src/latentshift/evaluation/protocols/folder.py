"""Score any system's clips: the files of a folder, beside true clips and captions where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits
from latentshift.evaluation.extractors.extractor import Extractor
from latentshift.evaluation.protocols.captions import Captioned
from latentshift.evaluation.protocols.clip_files import FrameChoice, read_clips
from latentshift.evaluation.protocols.evaluation import Evaluation, VideoSet
from latentshift.evaluation.protocols.kept_clips import FOLDER, write_example
from latentshift.evaluation.protocols.pairing import Pairs
from latentshift.evaluation.protocols.pairs import PairedVideos
from latentshift.evaluation.protocols.plan import Item, plan_digest
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.run import Video
from latentshift.evaluation.report.schema import System
from latentshift.files import clear_leftovers

_EXAMPLE_FPS = 8


def folder_evaluation(
    output: Path,
    clips: Path,
    captioned: Captioned,
    reference: tuple[Path, list[Item]] | None,
    pairs: Pairs | None,
    choice: FrameChoice,
    limits: WorkerLimits,
    extractors: Mapping[str, Extractor],
    *,
    name: str,
    device: str,
    notes: list[str],
) -> Evaluation:
    """The evaluation of the clips in a folder.

    Args:
        output: folder of the result.
        clips: folder of the clips.
        captioned: the clips (:func:`.clip_files.list_clips`) with their captions.
        reference: folder of true clips and the clips in it; None for none.
        pairs: which true clip each clip is compared with on its own; None: with none.
        choice: which frames of each clip, the same on both sides.
        limits: of the reading processes.
        extractors: by key.
        name: of the system.
        device: of the extractors.
        notes: sentences for the report.
    """

    def videos_of(folder: Path, items: list[Item]) -> VideoSet:
        def make(wanted: Iterable[tuple[int, Item]]) -> Iterator[Video]:
            for index, item, video in read_clips(folder, wanted, choice, limits):
                yield index, item, video, item.file

        return VideoSet(str(folder), items, make)

    def examples(shown: Sequence[Reading], _: Readings) -> list[str | None]:
        clear_leftovers(output / FOLDER)  # of a killed call; no other process writes there
        wanted = [(each.index, captioned.items[each.index]) for each in shown]
        return [
            None if isinstance(video, Rejected) else write_example(output, reading, video, _EXAMPLE_FPS)
            for reading, (_, _, video) in zip(shown, read_clips(clips, wanted, choice, limits), strict=True)
        ]

    settings: dict[str, object] = {
        "frames": choice.frames,
        "seconds": choice.seconds,
        "size": choice.size,
        "device": device.partition(":")[0],
    }
    generated, beside = videos_of(clips, captioned.items), None
    if pairs is not None and reference is not None:
        paired = PairedVideos(clips, reference[0], pairs.true_of, choice, limits)
        generated, beside = VideoSet(str(clips), captioned.items, paired.make), paired.values
        settings["paired"] = True  # left out without, as in results from before there were pairs
    return Evaluation(
        output,
        "folder",
        System(name=name, kind="clips", contents=plan_digest(captioned.items)),
        settings,
        extractors,
        generated,
        None if reference is None else videos_of(*reference),
        examples,
        rejected=[*captioned.rejected, *(pairs.rejected if pairs is not None else ())],
        notes=notes,
        beside=beside,
    )
