"""A run's folder: its lock, and what is written there before the first step."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from latentshift.files import atomic_write_text, clear_leftovers, open_locked
from latentshift.models.storage.model_paths import DATA_SETTINGS
from latentshift.training.data.settings_digest import data_settings
from latentshift.training.recipe import AnyRecipe
from latentshift.training.recipe_file import dump_recipe
from latentshift.user_input.error_text import printable

_LOCK_APPEARS_WITHIN = 60  # seconds


def write_run_info(output: Path, recipe: AnyRecipe, accelerator: Accelerator) -> None:
    """Write ``recipe.yaml``, ``data_settings.json`` and ``versions.json``; remove what killed writers have left."""
    if not accelerator.is_main_process:
        return
    of_data = [place for kind in ("latents", "footage", "validation") for place in (output / kind).glob("**/")]
    for folder in (output, output / "samples", *of_data):
        clear_leftovers(folder)
    atomic_write_text(output / "recipe.yaml", dump_recipe(recipe))
    atomic_write_text(output / DATA_SETTINGS, data_settings(recipe))
    atomic_write_text(output / "versions.json", json.dumps(_versions(accelerator), indent=1) + "\n")


@contextmanager
def lock_run(output: Path, accelerator: Accelerator) -> Iterator[None]:
    """Inside, no other run can use the folder, and all processes of this one are known to see the same folder.

    To be entered by every process; the main one holds the lock. Neither the lock file nor an empty folder is left.

    Raises:
        ValueError: if another run is using it, or a process sees another folder at the same path.
        OSError: if nothing can be written there.
    """
    with _locked(output) if accelerator.is_main_process else nullcontext() as content:
        (content,) = broadcast_object_list([content])
        if content is not None:
            _wait_for_lock_file(output, content)
        yield


@contextmanager
def _locked(output: Path) -> Iterator[str | None]:
    """The content of the lock file while this process holds it; None where the disk can't lock files."""
    path = _lock_file(output)
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    output.mkdir(parents=True, exist_ok=True)
    already_there = path.exists()
    try:
        file = open_locked(path)
    except BlockingIOError:
        number = path.read_text().strip() if path.exists() else ""
        raise ValueError(
            f"another run is at work in {output} (process {number}); wait for it, or stop it, and run again"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        print(
            f"warning: {printable(path)} can't be locked ({error.strerror}): see to it that no other run writes there",
            file=sys.stderr,
        )
        file = None
    content = f"{os.getpid()} on {platform.node()}"
    try:
        if file is not None:
            file.truncate(0)  # what a killed run has left
            file.write(content.encode())
            file.flush()
        yield None if file is None else content
    finally:
        if file is not None or not already_there:
            with suppress(OSError):  # on Windows an open file stays
                path.unlink(missing_ok=True)
        if file is not None:
            file.close()
        for folder in missing:
            with suppress(OSError):  # it holds what the run has made
                folder.rmdir()


def _wait_for_lock_file(output: Path, content: str) -> None:
    for _ in range(_LOCK_APPEARS_WITHIN):
        with suppress(FileNotFoundError):
            if _lock_file(output).read_text() == content:
                return
        time.sleep(1)  # a shared disk may show new files late
    raise ValueError(
        f"the processes don't share {output}: on several machines output must be a folder that all of them see"
    )


def _lock_file(output: Path) -> Path:
    return output / ".running"


def _versions(accelerator: Accelerator) -> dict[str, Any]:
    names = ("latentshift", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "av")
    device = accelerator.device
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
    }


def _processor() -> str:
    """The processor's name; Python does not know it on Linux."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
