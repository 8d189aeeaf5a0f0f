"""What the loop has to be told of a stage."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

from torch import nn


class Stage(Protocol):
    """Something that is trained: from batches to a loss, and from the weights to samples and a model."""

    @property
    def objective(self) -> nn.Module:
        """From a batch to a dict of scalars, of which ``loss`` is trained on; holds all that is trained."""

    def batches(self, step: int) -> Generator[Any]:
        """This process's share of the batches from that of step ``step`` (1, 2, …) on, endlessly.

        Dataclasses of tensors on the CPU, each of which has the samples first, and of ``names``, which gives theirs.
        """

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the run began from; a checkpoint goes on only with the same."""

    def listed(self) -> dict[str, Any]:
        """What is used of the data and what is not, in plain values: it stays as it is."""

    def lines(self) -> list[str]:
        """The same in short, a line for each source."""

    def came_across(self) -> dict[str, list[Any]]:
        """What this process has come across in the data so far: under each heading names, or dicts with a ``name``."""

    def sample(self, folder: Path, step: int) -> None:
        """Write samples of the current weights, to be looked at: ``step-NNNNNNNN.png``, and clips beside it."""

    @property
    def question(self) -> str | None:
        """What validation asks, and of which data: only errors of the same question can be compared. None without."""

    def validate(self) -> dict[str, float]:
        """What is measured of the current weights on fixed data, by name; empty if nothing is."""

    def export(self, output: Path) -> None:
        """Write the finished model, of the current weights, to ``model/`` in the run's folder, or files beside it."""
