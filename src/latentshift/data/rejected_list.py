"""What was left out, however much of it: named in a file of JSON lines, counted in memory."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from latentshift.bounded_read import parse_json_bounded
from latentshift.data.manifest import RejectedRow


class RejectedList:
    """A list on disk of what was left out.

    Args:
        path: the file; what is in it already stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_kind: Counter[str] = Counter()
        self.captions = 0  # of it, single captions of clips
        for each in self:
            self._count(each)

    def clear(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
        self.by_kind.clear()
        self.captions = 0

    def add(self, left_out: RejectedRow) -> None:
        """Add one."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(left_out)) + "\n")
        self._count(left_out)

    def first(self, count: int) -> list[RejectedRow]:
        """The first of them."""
        return list(itertools.islice(self, count))

    def _count(self, left_out: RejectedRow) -> None:
        self.by_kind[left_out.kind] += 1
        self.captions += left_out.caption

    def __len__(self) -> int:
        return self.by_kind.total()

    def __iter__(self) -> Iterator[RejectedRow]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield RejectedRow(**parse_json_bounded(line, str(self.path)))
