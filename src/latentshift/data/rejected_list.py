"""The rejected clips of a source: named in a JSON-lines file, counted in memory."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from latentshift.data.manifest import RejectedRow
from latentshift.user_input.bounded_read import parse_json_bounded


class RejectedList:
    """A list on disk of rejected clips.

    Args:
        path: the file; existing entries are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_kind: Counter[str] = Counter()
        self.captions = 0  # how many entries are single captions of clips
        for each in self:
            self._count(each)

    def add(self, row: RejectedRow) -> None:
        """Append an entry."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(row)) + "\n")
        self._count(row)

    def first(self, count: int) -> list[RejectedRow]:
        """The first ``count`` entries."""
        return list(itertools.islice(self, count))

    def _count(self, row: RejectedRow) -> None:
        self.by_kind[row.kind] += 1
        self.captions += row.caption

    def __len__(self) -> int:
        return self.by_kind.total()

    def __iter__(self) -> Iterator[RejectedRow]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield RejectedRow(**parse_json_bounded(line, str(self.path)))
