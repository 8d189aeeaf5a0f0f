"""``data.json`` in a run's folder: which data is used, which is not and why, and what was replaced on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

from latentshift.files import atomic_write_text
from latentshift.training.stages.base import Stage


class DataReport:
    """Written by the main process, from what all processes have met; every method is to be called by all of them."""

    def __init__(self, path: Path, stage: Stage, accelerator: Accelerator) -> None:
        self._path = path
        self._stage = stage
        self._accelerator = accelerator
        self._written: dict[str, list[Any]] | None = None

    def write(self) -> None:
        """Write the report, if there is anything new."""
        gathered = gather_object([self._stage.data_issues()])
        if self._accelerator.is_main_process and (issues := _merge(gathered)) != self._written:
            text = json.dumps({**self._stage.describe_data(), **issues}, indent=1, ensure_ascii=False) + "\n"
            atomic_write_text(self._path, text)
            self._written = issues

    @contextmanager
    def written_at_exit(self) -> Iterator[None]:
        """Write it however the block ends. After an error of one of several processes it can't be gathered."""
        try:
            yield
        except BaseException:
            if self._accelerator.num_processes == 1:
                with suppress(Exception):  # the error that ended the run, a full disk say, is the one to raise
                    self.write()
            raise
        self.write()


def _merge(gathered: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The entries of all processes under each heading, each once, sorted by name."""
    merged: dict[str, list[Any]] = {}
    for heading in gathered[0]:
        entries = {each if isinstance(each, str) else each["name"]: each for own in gathered for each in own[heading]}
        merged[heading] = [entries[name] for name in sorted(entries)]
    return merged
