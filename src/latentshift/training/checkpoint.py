"""Checkpoints: tensors as safetensors, numbers as JSON, a folder that appears whole or not at all.

Knows nothing of what the tensors mean. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentshift.whole import whole

_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds: named groups of tensors and plain values."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> Path:
    """Write ``folder/step-NNNNNNNN``, whole or not at all."""
    final = folder / f"{_PREFIX}{step:08d}"
    with whole(final) as temporary:
        temporary.mkdir()
        for name, group in tensors.items():
            flat = {key: value.detach().cpu().contiguous() for key, value in group.items()}
            save_file(flat, temporary / f"{name}.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, "groups": sorted(tensors), **values}, indent=1))
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    return final


def drop_checkpoints(folder: Path, keep: int, always: int | None = None) -> None:
    """Delete all but the newest ``keep``, that of step ``always``, and what a save that was killed has left."""
    for old in list_checkpoints(folder)[:-keep]:
        if checkpoint_step(old) != always:
            shutil.rmtree(old)
    for left in folder.glob(".*.part"):
        shutil.rmtree(left)


def checkpoint_step(path: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(path.name.removeprefix(_PREFIX))


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        ValueError: if it is not whole; the message names the file.
    """
    try:
        values = json.loads((path / "state.json").read_text())
        tensors = {name: load_file(path / f"{name}.safetensors") for name in values.pop("groups")}
        return Checkpoint(step=values.pop("step"), tensors=tensors, values=values)
    except (OSError, KeyError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({error}); delete it to go on from the one before"
        ) from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: ``{parameter number}.{name}``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, entries in state.items()
        for name, value in entries.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put :func:`optimizer_tensors` back into an optimizer over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # The fused kernels walk through memory without a look at strides: every moment must lie as its parameter lies, and
    # a file holds them contiguous even where the parameter is channels-last.
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter).copy_(value)
