"""The prompts of the paper's two protocols, with a seed each, and the true videos that they are compared with.

MSR-VTT (Sec. 4.2): the captions of the test split. UCF-101: one sentence a class, classes as often as in the training
list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from latentshift.data.manifest import RejectedRow, Row
from latentshift.data.sample_order import rng_for
from latentshift.data.sources.msrvtt import read_msrvtt
from latentshift.data.sources.ucf101 import read_ucf101
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.report.schema import Rejected

MSRVTT_VIDEOS, MSRVTT_CAPTIONS = 2_990, 59_794
_MOST_VIDEOS = 1_000_000  # of all repeats together
UCF101_VIDEOS, UCF101_REPEATS = 2_048, 10
UCF101_OTHER = (10_000, 4)  # the other pair that papers use
UCF101_CLASSES = 101

CaptionsWord = Literal["all", "one"]
CAPTIONS: tuple[CaptionsWord, ...] = get_args(CaptionsWord)


@dataclass(frozen=True)
class PaperPlan:
    """What a data set gives for an evaluation.

    Attributes:
        items: prompts with seeds.
        rows: the true videos.
        rejected: entries that could not be used.
        notes: sentences on what is unlike the paper's.
        number_notes: sentences on a number of videos unlike the papers', for the metrics that are biased by it.
    """

    items: list[Item]
    rows: list[Row]
    rejected: list[Rejected]
    notes: list[str] = field(default_factory=list)
    number_notes: list[str] = field(default_factory=list)


def msrvtt_plan(
    annotations: Path, root: Path | None, captions: CaptionsWord, videos: int | None, seed: int
) -> PaperPlan:
    """Prompts of MSR-VTT's test split, in the order of its annotations.

    Args:
        annotations: the JSON with ``videos`` and ``sentences``.
        root: folder of the videos; None: the JSON's own.
        captions: ``all`` of a video's, or ``one``, drawn by the seed.
        videos: to make, drawn from the prompts by the seed; None: all.
        seed: of the first prompt; prompt k of the full list has ``seed + k``, however many are drawn.

    Raises:
        ValueError: if the file is not valid or has no test video with a caption, or for fewer prompts than ``videos``.
    """
    rows, rejected = _sorted_out(read_msrvtt(annotations, root, "test"))
    if not rows:
        raise ValueError(f"{annotations} has no video of the split test with a caption")
    prompts: list[str] = []
    for number, row in enumerate(rows):
        of_video = row.captions
        if captions == "one":
            of_video = (of_video[int(rng_for(seed, number).integers(len(of_video)))],)
        prompts += of_video
    items = _with_seeds(prompts, videos, seed)
    notes: list[str] = []
    number_notes: list[str] = []
    if len(rows) != MSRVTT_VIDEOS:
        notes.append(
            f"The test split names {len(rows):,} videos with a caption; the official one has {MSRVTT_VIDEOS:,}."
        )
    expected = MSRVTT_CAPTIONS if captions == "all" else MSRVTT_VIDEOS
    if len(items) != expected:
        what = "all captions" if captions == "all" else "one caption a video"
        number_notes.append(
            f"{len(items):,} videos are made, and the papers' number with {what} is {expected:,}: FID and CMMD "
            "depend on the number, so that they can't be compared with theirs as they stand."
        )
    return PaperPlan(items, rows, rejected, notes, number_notes)


def ucf101_plan(
    root: Path,
    lists: Path | None,
    fold: int,
    sentences: Path | None,
    videos: int,
    repeats: int,
    seed: int,
) -> PaperPlan:
    """Prompts for UCF-101: in each repeat classes are drawn with the training list's frequencies.

    The reference is the training list ("evaluate on the train split", Sec. 4.2). Video k of all repeats has the seed
    ``seed + k``.

    Args:
        root: the folder of classes.
        lists: the folder of the official lists; None: ``ucfTrainTestlist`` in or beside ``root``.
        fold: 1, 2 or 3.
        sentences: YAML of class: sentence; None: the package's.
        videos: of each repeat.
        repeats: of the whole, with other classes drawn and other seeds.
        seed: of the draws, and of the first video.

    Raises:
        ValueError: for missing folders or lists, an unknown fold, or an empty training list.
    """
    if videos < 1 or repeats < 1:
        raise ValueError(f"--videos and --repeats must be 1 or more, not {videos:,} and {repeats:,}")
    if videos * repeats > _MOST_VIDEOS:
        raise ValueError(f"--videos times --repeats must be {_MOST_VIDEOS:,} or less, not {videos:,} times {repeats:,}")
    rows, rejected = _sorted_out(read_ucf101(root, lists, fold, "train", "sentence", sentences))
    if not rows:
        raise ValueError(f"the training list of {root} names no clip of a class with a sentence")
    histogram = Counter(row.captions[0] for row in rows)
    names = sorted(histogram)
    share = np.array([histogram[name] for name in names], np.float64) / len(rows)
    items = []
    for repeat in range(repeats):
        drawn = rng_for(seed, repeat).choice(len(names), size=videos, p=share)
        items += [Item(names[each], seed + repeat * videos + number) for number, each in enumerate(drawn.tolist())]
    notes: list[str] = []
    number_notes: list[str] = []
    if (videos, repeats) not in ((UCF101_VIDEOS, UCF101_REPEATS), UCF101_OTHER):
        number_notes.append(
            f"{repeats:,} times {videos:,} videos are made, and papers use {UCF101_REPEATS} times {UCF101_VIDEOS:,} or "
            f"{UCF101_OTHER[1]} times {UCF101_OTHER[0]:,}: IS and FVD depend on the number, so that they can't be "
            "compared with theirs as they stand."
        )
    if len(names) != UCF101_CLASSES:
        notes.append(f"The training list has {len(names)} classes; the official one has {UCF101_CLASSES}.")
    return PaperPlan(items, rows, rejected, notes, number_notes)


def _sorted_out(entries: Iterable[Row | RejectedRow]) -> tuple[list[Row], list[Rejected]]:
    rows, rejected = [], []
    for each in entries:
        if isinstance(each, RejectedRow):
            rejected.append(Rejected(file=each.name, reason=each.reason))
        else:
            rows.append(each)
    return rows, rejected


def _with_seeds(prompts: list[str], videos: int | None, seed: int) -> list[Item]:
    """Items of all prompts, or of some of them, drawn without replacement and in their order."""
    chosen = list(range(len(prompts)))
    if videos is not None:
        if not 1 <= videos <= len(prompts):
            raise ValueError(f"--videos must be from 1 to {len(prompts):,}, the number of prompts, not {videos:,}")
        chosen = sorted(rng_for(seed).choice(len(prompts), size=videos, replace=False).tolist())
    return [Item(prompts[each], seed + each) for each in chosen]
