"""The logs of a run: files of JSON lines that are appended to, read back, and truncated when a run resumes.

Every line has a ``step``. ``validation.jsonl`` says which step is the best of those that have a checkpoint.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from latentshift.files import atomic_write_text
from latentshift.training.checkpoints.checkpoint import Checkpoint, load_checkpoint
from latentshift.training.checkpoints.paths import checkpoint_path

METRICS, VALIDATION, DROPPED = "metrics.jsonl", "validation.jsonl", "dropped.jsonl"


def append_jsonl(path: Path, line: dict[str, Any]) -> None:
    """Append one line.

    Raises:
        OSError: if it can't be written; the message says what to do.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OSError(
            f"{path} can't be written to ({error.strerror}); make room there, and run again: it resumes from the "
            "newest checkpoint"
        ) from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a log; none if there is no such file. A line that a kill cut short is skipped."""
    if not path.exists():
        return []
    lines = (_parse(line) for line in path.read_bytes().split(b"\n"))
    return [line for line in lines if line is not None]


def truncate_after(path: Path, step: int) -> None:
    """Drop the lines of later steps, which are going to be logged again, and lines that a kill cut short."""
    if path.exists():
        kept = [line for line in read_jsonl(path) if line["step"] <= step]
        atomic_write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def validation_errors(output: Path, validation_id: str | None) -> dict[int, float]:
    """Step -> validation error, of the steps of a run that were validated under this id with a finite result."""
    lines = read_jsonl(output / VALIDATION)
    errors = {line["step"]: line["error"] for line in lines if line["asked"] == validation_id}
    return {step: error for step, error in errors.items() if error is not None and math.isfinite(error)}


def best_step(output: Path, validation_id: str | None) -> int | None:
    """The step with the lowest validation error of those with a checkpoint, the earliest of equal ones, or None."""
    folder = output / "checkpoints"
    errors = validation_errors(output, validation_id)
    kept = [step for step in errors if checkpoint_path(folder, step).exists()]
    return min(kept, key=lambda step: (errors[step], step), default=None)


def load_best_checkpoint(output: Path, validation_id: str | None) -> Checkpoint:
    """The checkpoint of the best step.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    best = best_step(output, validation_id)
    if best is None:
        raise ValueError(
            f"export_from is best, and no checkpoint of {output} has a validation error that is a number; "
            "export_from=last exports the last step"
        )
    return load_checkpoint(checkpoint_path(output / "checkpoints", best))


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "step" in line else None
