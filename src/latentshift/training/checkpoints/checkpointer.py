"""Saves a run's checkpoints and resumes from the newest intact one, the same in every process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from latentshift.progress import status
from latentshift.training.checkpoints.checkpoint import (
    Checkpoint,
    drop_checkpoints,
    load_newest_checkpoint,
    quarantine_after,
    save_checkpoint,
)
from latentshift.user_input.error_text import printable


class Stateful(Protocol):
    """Something whose state a checkpoint holds."""

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Its tensors, by group and name; called by every process, the main one's are saved."""

    def values(self) -> dict[str, Any]:
        """The rest of its state, as JSON values."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to the state in a checkpoint."""


class Checkpointer:
    """Writes checkpoints from the main process; every method is to be called by all of them.

    Args:
        folder: of the checkpoints.
        fingerprint: what the run started from, by name; a checkpoint is resumed only with the same.
        accelerator: of the run.
        keep: how many of the newest checkpoints are kept.
        keep_always: gives the steps whose checkpoints are kept besides.
        quiet: do not show on a terminal that a checkpoint is being saved.

    Attributes:
        saved: the step of the newest checkpoint, 0 if there is none.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, str],
        accelerator: Accelerator,
        *,
        keep: int,
        keep_always: Callable[[], Collection[int | None]],
        quiet: bool = False,
    ) -> None:
        self.folder = folder
        self.saved = 0
        self._fingerprint = dict(fingerprint)
        self._accelerator = accelerator
        self._keep = keep
        self._keep_always = keep_always
        self._quiet = quiet

    def resume(self, *parts: Stateful) -> int:
        """Restore the newest intact checkpoint, and return its step; 0 if there is none.

        Args:
            parts: whose state is restored.

        Raises:
            ValueError: if there are checkpoints and none is intact, the run started from something else, or the
                processes don't see the same.
        """
        checkpoint, errors = load_newest_checkpoint(self.folder)
        if errors and checkpoint is None:
            raise ValueError(f"{errors[0]}, and none is intact; delete {self.folder} to start over")
        if self._accelerator.is_main_process:
            for error in errors:
                print(
                    f"warning: {printable(error)}; set aside (damaged-…), going on from the one before", file=sys.stderr
                )
        self._check_processes_agree(0 if checkpoint is None else checkpoint.step)
        if checkpoint is None:
            return 0
        if self._accelerator.is_main_process:
            quarantine_after(self.folder, checkpoint.step)
        before = checkpoint.values.get("fingerprint", {})
        changed = [name for name, digest in self._fingerprint.items() if before.get(name, digest) != digest]
        if changed:
            raise ValueError(
                f"{self.folder.parent} began with another {changed[0]} than what is named now: the name is another, or "
                "what lies there has changed since; put back what it began with, or choose another output"
            )
        for part in parts:
            part.restore(checkpoint)
        self.saved = checkpoint.step
        return checkpoint.step

    def save(self, step: int, *parts: Stateful, last_update: int | None = None) -> None:
        """Save the step that was just taken, unless it is saved already.

        Args:
            step: 1, 2, ….
            parts: whose state is saved.
            last_update: the last step that changed the weights; if a checkpoint has it, nothing is saved: a copy of the
                same weights would push out a checkpoint from before the run diverged. None: save in any case.

        Raises:
            OSError: if it can't be written.
        """
        if step == self.saved or (last_update is not None and last_update <= self.saved):
            return
        tensors = {name: group for part in parts for name, group in part.tensors().items()}
        if self._accelerator.is_main_process:
            values: dict[str, Any] = {"fingerprint": self._fingerprint}
            for part in parts:
                values |= part.values()
            with status("saving a checkpoint", shown=not self._quiet):
                save_checkpoint(self.folder, step, tensors, values)
                drop_checkpoints(self.folder, self._keep, self._keep_always())
        self.saved = step

    def _check_processes_agree(self, step: int) -> None:
        seen = gather_object([(step, self._fingerprint)])
        if len({each for each, _ in seen}) > 1:
            raise ValueError(
                f"the processes don't see the same checkpoints in {self.folder} (the newest are of steps "
                f"{', '.join(str(each) for each, _ in seen)}); on several machines output must be a folder that all "
                "of them share"
            )
        for name, digest in seen[0][1].items():
            if any(fingerprint.get(name) != digest for _, fingerprint in seen):
                raise ValueError(f"the processes don't see the same {name}; run again when nothing changes it any more")
