"""Checkpoints: tensors as safetensors, numbers as JSON, in a folder that is written atomically and has checksums.

Knows nothing of what the tensors mean. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentshift.files import atomic_write, clear_leftovers, remove
from latentshift.training.checkpoints.paths import checkpoint_path, checkpoint_step, list_checkpoints

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds: named groups of tensors and plain values."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> Path:
    """Write ``folder/step-NNNNNNNN`` atomically; its last file lists the others with their checksums.

    Raises:
        OSError: if it can't be written; the message says what to do.
    """
    final = checkpoint_path(folder, step)
    try:
        with atomic_write(final) as temporary:
            temporary.mkdir()
            for name, group in tensors.items():
                save_file(_apart(group), temporary / f"{name}.safetensors")
            state = {"step": step, "groups": sorted(tensors), **values}
            (temporary / "state.json").write_text(json.dumps(state, indent=1))
            files = {path.name: _described(path) for path in sorted(temporary.iterdir())}
            (temporary / _MANIFEST).write_text(json.dumps(files, indent=1))
    except (OSError, SafetensorError) as error:
        before = list_checkpoints(folder)
        resumes = f"resumes from {before[-1]}" if before else "starts over"
        raise OSError(
            f"the checkpoint of step {step} can't be written to {folder} ({error}); make room there, and run again: it "
            f"{resumes}"
        ) from None
    return final


def drop_checkpoints(folder: Path, keep: int, always: Collection[int | None] = ()) -> None:
    """Delete all but the newest ``keep``, those of steps ``always``, and what a save that was killed has left."""
    for old in list_checkpoints(folder)[:-keep]:
        if checkpoint_step(old) not in always:
            remove(old)
    clear_leftovers(folder)


def quarantine_after(folder: Path, after: int) -> None:
    """Give the checkpoints of later steps, which are damaged, another name, so that they don't count as kept.

    They are ``damaged-step-NNNNNNNN`` from then on, and are not deleted with the others.
    """
    for path in list_checkpoints(folder):
        if checkpoint_step(path) > after:
            named = folder / f"damaged-{path.name}"
            if named.exists():
                remove(named)
            path.rename(named)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back, every byte of it as it was written.

    Raises:
        ValueError: if it is not intact; the message names the file.
    """
    try:
        files = json.loads((path / _MANIFEST).read_text())
        for name, described in files.items():
            if _described(path / name) != described:
                raise ValueError(f"{name} is not what was written")
        values = json.loads((path / "state.json").read_text())
        tensors = {name: load_file(path / f"{name}.safetensors") for name in values.pop("groups")}
        return Checkpoint(step=values.pop("step"), tensors=tensors, values=values)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ValueError(f"the checkpoint {path} is damaged ({error})") from None


def load_newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest intact checkpoint, None if there is none; and what is wrong with those that are newer."""
    errors: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path), errors
        except ValueError as error:
            errors.append(str(error))
    return None, errors


def _apart(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # On the CPU, each in memory of its own: an optimizer may give one tensor to many parameters (bitsandbytes does).
    seen: set[int] = set()
    apart = {}
    for name, value in group.items():
        flat = value.detach().cpu().contiguous()
        apart[name] = flat.clone() if flat.data_ptr() in seen else flat
        seen.add(apart[name].data_ptr())
    return apart


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
