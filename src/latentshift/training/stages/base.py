"""What the training loop needs of a stage."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn


class Stage(Protocol):
    """Something that is trained: batches, an objective, validation, samples, and a model to export."""

    @property
    def objective(self) -> nn.Module:
        """From a batch to a dict of scalars, of which ``loss`` is minimised; holds all that is trained."""

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """What the run started from, by name; a checkpoint is resumed only with the same."""

    def batches(self, step: int) -> Generator[Any]:
        """This process's share of the batches from that of step ``step`` (1, 2, …) on, endlessly.

        Dataclasses of tensors on the CPU, each with the samples first, and with ``names()`` of the samples.
        """

    def samples_until(self, step: int) -> int:
        """Samples of all processes in the steps up to this one, 0 for step 0; a step on single frames of a video stage
        counts as the whole clips that have as many."""

    def describe_data(self) -> dict[str, Any]:
        """Which data is used and which is not, as JSON values; the same throughout the run."""

    def data_summary(self) -> list[str]:
        """The same in short, a line for each source."""

    def data_issues(self) -> dict[str, list[Any]]:
        """What this process has met in the data so far: under each heading names, or dicts with a ``name``."""

    @property
    def validation_id(self) -> str | None:
        """A digest of validation's settings and data: only errors with the same one compare. None: no validation."""

    def validate(self) -> dict[str, float]:
        """Errors of the current weights on fixed data, by name; empty without validation."""

    def sample(self, folder: Path, step: int) -> None:
        """Write samples of the current weights: ``step-NNNNNNNN.png``, and clips beside it."""

    def export(self, output: Path) -> None:
        """Write the finished model, of the current weights, to ``model/`` in the run's folder, or files beside it."""
