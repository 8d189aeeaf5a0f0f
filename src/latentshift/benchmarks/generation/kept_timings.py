"""What each turn of a comparison took, kept in a file that only grows, so that the same command resumes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter

from latentshift.benchmarks.generation.time_model import PassTiming, Timing
from latentshift.files import explain_full_disk, open_to_write_alone
from latentshift.user_input.bounded_read import read_appended_lines

FILE = "timings.jsonl"
_MAX_LINE = 2**22  # bytes
_REMEDY = "delete the file, and all is timed again"
_TURN: TypeAdapter[tuple[str, int, PassTiming | Timing]] = TypeAdapter(tuple[str, int, PassTiming | Timing])


class KeptTimings:
    """The turns of one folder, which no other process may write to meanwhile.

    A line is a turn: what was timed, the round, and its timing. A last line that a kill has cut is cut off.

    Args:
        folder: of the result.

    Raises:
        ValueError: if another process has the file, or a line is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open_to_write_alone(self._path)
        self._turns: dict[tuple[str, int], Timing | PassTiming] = {}
        try:
            end = 0
            lines = read_appended_lines(self._file, self._path, _TURN.validate_json, _REMEDY, _MAX_LINE)
            for (what, turn, timing), end in lines:  # noqa: B007  (the last end is where the file is cut)
                self._turns[what, turn] = timing
            self._file.truncate(end)
        except BaseException:
            self._file.close()
            raise

    def get(self, what: str, turn: int) -> Timing | PassTiming | None:
        """A turn's timing; None for one that is left."""
        return self._turns.get((what, turn))

    def add(self, what: str, turn: int, timing: Timing | PassTiming) -> None:
        """Keep a turn.

        Raises:
            OSError: if the disk is full.
        """
        with explain_full_disk(self._path, "what is timed is kept, and the same command resumes"):
            self._file.write(json.dumps([what, turn, asdict(timing)]).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._turns[what, turn] = timing

    def __len__(self) -> int:
        return len(self._turns)

    def __enter__(self) -> KeptTimings:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
