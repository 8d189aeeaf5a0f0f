"""Which step of a run is its best: that with the lowest validation error, of those that have a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

from latentshift.training.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from latentshift.training.lines import read_lines

VALIDATION = "validation.jsonl"


def validated_steps(output: Path, asked: str | None) -> dict[int, float]:
    """Step -> its error, of all steps of a run at which that question was asked and answered with a number."""
    lines = read_lines(output / VALIDATION)
    told = {line["step"]: line["error"] for line in lines if line["asked"] == asked}
    return {step: error for step, error in told.items() if error is not None and math.isfinite(error)}


def best_step(output: Path, asked: str | None) -> int | None:
    """The best step, the earliest of several. None if there is none."""
    folder = output / "checkpoints"
    told = validated_steps(output, asked)
    kept = [step for step in told if checkpoint_path(folder, step).exists()]
    return min(kept, key=lambda step: (told[step], step), default=None)


def load_best(output: Path, asked: str | None) -> Checkpoint:
    """The checkpoint of the best step.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    best = best_step(output, asked)
    if best is None:
        raise ValueError(
            f"export_from is best, and no checkpoint of {output} has a validation error that is a number; "
            "export_from=last exports the last step"
        )
    return load_checkpoint(checkpoint_path(output / "checkpoints", best))
