"""A rater in a process of its own: answers until nothing is left, and notes each answer once it is confirmed.

Arguments: the study's folder, the rater's token, the file to note answers in, and seconds to add to the clock.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from latentshift.study.store import Store


def main() -> None:
    folder, token, notes, later = sys.argv[1:]
    with (
        Store(Path(folder), clock=lambda: time.time() + float(later)) as store,
        open(notes, "ab", buffering=0) as file,
    ):
        while (pair := store.next_assignment(token)) is not None:
            side = "left" if pair.id % 3 else "right"
            store.answer(token, pair.id, {each.name: side for each in store.settings.questions})
            os.write(file.fileno(), f"{pair.id} {side}\n".encode())


main()
