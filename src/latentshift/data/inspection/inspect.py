"""A source, read through once: what can be used, what can't and why, and what is odd about the rest.

What is said of a source is built up clip by clip and stays small, whatever its length. Knows no page and no screen.
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
from latentshift.data.inspection.examine import Facts, Question, examine
from latentshift.data.manifest import Manifest, RejectedRow, Row
from latentshift.data.rejected import Rejected
from latentshift.data.rejected_list import RejectedList
from latentshift.data.worker_pool import WorkerLimits, WorkerPool

CERTAINLY_CUT = 75  # words: each is a token or more, and two mark the ends
_EDGES = {
    "seconds": (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, float("inf")),
    "fps": (0, 12, 20, 24.5, 27, 31, 49, 51, 61, float("inf")),
    "short_side": (0, 64, 128, 256, 360, 480, 720, 1080, 2160, float("inf")),
    "caption_words": (0, 1, 3, 6, 10, 20, 40, 80, float("inf")),
}


@dataclass(frozen=True)
class Finding:
    """What came of one row."""

    index: int
    row: Row
    found: Facts | Rejected


def look_through(
    manifest: Manifest | Sequence[Row], window: Window, framing: Framing, limits: WorkerLimits, pictures: int = 0
) -> Iterator[Finding]:
    """Examine every row in a worker, in the order of the manifest; of ``pictures`` evenly spread rows, frames too."""
    every = max(1, len(manifest) // pictures) if pictures else 0
    questions = (
        Question(index, row, window, framing, picture=bool(every) and index % every == 0)
        for index, row in enumerate(manifest)
    )
    with WorkerPool(examine, limits, (*IMPORTS, "scenedetect")) as pool:
        for question, found in pool.run(questions):
            yield Finding(question.index, question.row, found)


@dataclass
class Inspection:
    """What is said of a source.

    Attributes:
        left_out: what can't be used, in the order of the source.
        kept: clips that can be used, images among them.
        images: how many of those are single images.
        captions: how many they have together.
        long: how many of those are cut by every text encoder of 77 tokens, whatever the words.
        tables: name -> counts between ``edges(name)``.
        codecs: name -> clips.
    """

    left_out: RejectedList
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
        """Take in what came of a row."""
        row, found = finding.row, finding.found
        if isinstance(found, Rejected):
            self.left_out.add(RejectedRow(row.name, found.kind, found.reason))
            return
        self.kept += 1
        self.captions += len(row.captions)
        self.codecs[found.codec] += 1
        if found.fps:
            self._count("seconds", found.seconds)
            self._count("fps", found.fps)
        else:
            self.images += 1
        self._count("short_side", min(found.height, found.width))
        for caption in row.captions:
            words = len(caption.split())
            self._count("caption_words", words)
            self.long += words > CERTAINLY_CUT
        if found.cut is not None:
            self._cuts.append(finding.index)
            self._cut_seconds.append(found.cut)
        if found.still:
            self._still.append(finding.index)
        if found.short:
            self._short.append(finding.index)
        self._digests.append(found.digest)
        self._indices.append(finding.index)

    @property
    def total(self) -> int:
        """Every clip that the source offered."""
        return self.kept + len(self.left_out) - self.left_out.captions

    def duplicates(self) -> list[list[int]]:
        """Groups of rows, by position in the manifest, whose content is the same."""
        digests, indices = np.asarray(self._digests), np.asarray(self._indices)
        order = np.argsort(digests, kind="stable")
        groups = np.split(indices[order], np.flatnonzero(np.diff(digests[order])) + 1) if len(order) else []
        return sorted(group.tolist() for group in groups if len(group) > 1)

    def to_dict(self, manifest: Sequence[Row] | Manifest) -> dict[str, Any]:
        """All of it in plain values."""
        cuts = zip(self._cuts, self._cut_seconds, strict=True)
        return {
            "total": self.total,
            "kept": self.kept,
            "images": self.images,
            "captions": {"kept": self.captions, "left_out": self.left_out.captions, "long": self.long},
            "refused": [vars(each) for each in self.left_out],
            "refused_by_kind": dict(self.left_out.by_kind.most_common()),
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
