"""Inspect a source in one pass: which clips can be used, which can't and why, and suspicious ones among the rest.

The statistics are collected clip by clip and stay small, whatever the size of the source. Knows no output format.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latentshift.data.footage.decode import IMPORTS
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.inspection.examine import ClipInfo, ExamineTask, examine
from latentshift.data.manifest import Manifest, RejectedRow, Row
from latentshift.data.rejected import Rejected
from latentshift.data.rejected_list import RejectedList
from latentshift.data.worker_pool import WorkerLimits, WorkerPool

CERTAINLY_CUT = 75  # words: each is at least one token, plus start and end tokens
_EDGES = {
    "seconds": (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, float("inf")),
    "fps": (0, 12, 20, 24.5, 27, 31, 49, 51, 61, float("inf")),
    "short_side": (0, 64, 128, 256, 360, 480, 720, 1080, 2160, float("inf")),
    "caption_words": (0, 1, 3, 6, 10, 20, 40, 80, float("inf")),
}


@dataclass(frozen=True)
class Finding:
    """The result of examining one row."""

    index: int
    row: Row
    result: ClipInfo | Rejected


def inspect_rows(
    manifest: Manifest | Sequence[Row], window: Window, framing: Framing, limits: WorkerLimits, pictures: int = 0
) -> Iterator[Finding]:
    """Examine all rows in worker processes, in order; the results of ``pictures`` evenly spaced rows include frames."""
    every = max(1, len(manifest) // pictures) if pictures else 0
    tasks = (
        ExamineTask(index, row, window, framing, picture=bool(every) and index % every == 0)
        for index, row in enumerate(manifest)
    )
    with WorkerPool(examine, limits, (*IMPORTS, "scenedetect")) as pool:
        for task, result in pool.run(tasks):
            yield Finding(task.index, task.row, result)


@dataclass
class Inspection:
    """Statistics of a source.

    Attributes:
        rejected: clips that can't be used, in the order of the source.
        kept: number of usable clips, images included.
        images: number of usable single images.
        captions: number of captions of usable clips.
        long: number of captions that certainly exceed 77 tokens.
        tables: name -> histogram counts.
        codecs: name -> number of clips.
    """

    rejected: RejectedList
    kept: int = 0
    images: int = 0
    captions: int = 0
    long: int = 0
    tables: dict[str, np.ndarray] = field(
        default_factory=lambda: {name: np.zeros(len(edges) - 1, dtype=np.int64) for name, edges in _EDGES.items()}
    )
    codecs: Counter[str] = field(default_factory=Counter)
    _digests: array[int] = field(default_factory=lambda: array("Q"))
    _indices: array[int] = field(default_factory=lambda: array("Q"))
    _cuts: array[int] = field(default_factory=lambda: array("Q"))
    _cut_seconds: array[float] = field(default_factory=lambda: array("d"))
    _still: array[int] = field(default_factory=lambda: array("Q"))
    _short: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, finding: Finding) -> None:
        """Add the result of a row."""
        row, info = finding.row, finding.result
        if isinstance(info, Rejected):
            self.rejected.add(RejectedRow(row.name, info.kind, info.reason))
            return
        self.kept += 1
        self.captions += len(row.captions)
        self.codecs[info.codec] += 1
        if info.fps:
            self._count("seconds", info.seconds)
            self._count("fps", info.fps)
        else:
            self.images += 1
        self._count("short_side", min(info.height, info.width))
        for caption in row.captions:
            words = len(caption.split())
            self._count("caption_words", words)
            self.long += words > CERTAINLY_CUT
        if info.cut is not None:
            self._cuts.append(finding.index)
            self._cut_seconds.append(info.cut)
        if info.still:
            self._still.append(finding.index)
        if info.short:
            self._short.append(finding.index)
        self._digests.append(info.digest)
        self._indices.append(finding.index)

    @property
    def total(self) -> int:
        """The number of all clips in the source."""
        return self.kept + len(self.rejected) - self.rejected.captions

    def duplicates(self) -> list[list[int]]:
        """Groups of rows (manifest indices) with identical content."""
        digests, indices = np.asarray(self._digests), np.asarray(self._indices)
        order = np.argsort(digests, kind="stable")
        groups = np.split(indices[order], np.flatnonzero(np.diff(digests[order])) + 1) if len(order) else []
        return sorted(group.tolist() for group in groups if len(group) > 1)

    def to_dict(self, manifest: Sequence[Row] | Manifest) -> dict[str, Any]:
        """All statistics as JSON values."""
        cuts = zip(self._cuts, self._cut_seconds, strict=True)
        return {
            "total": self.total,
            "kept": self.kept,
            "images": self.images,
            "captions": {"kept": self.captions, "left_out": self.rejected.captions, "long": self.long},
            "refused": [vars(each) for each in self.rejected],
            "refused_by_kind": dict(self.rejected.by_kind.most_common()),
            "tables": {
                name: {"edges": [*edges[:-1], None], "counts": self.tables[name].tolist()}
                for name, edges in _EDGES.items()
            },
            "codecs": dict(self.codecs.most_common()),
            "duplicates": [[manifest[index].name for index in group] for group in self.duplicates()],
            "cuts": [{"name": manifest[index].name, "seconds": round(seconds, 3)} for index, seconds in cuts],
            "still": [manifest[index].name for index in self._still],
            "short": [manifest[index].name for index in self._short],
        }

    def _count(self, table: str, value: float) -> None:
        self.tables[table][np.searchsorted(_EDGES[table], value, side="right") - 1] += 1
