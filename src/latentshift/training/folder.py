"""A run's folder: whether a recipe may go on in it, and that one run at a time does."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from latentshift.files import check_writable, open_locked
from latentshift.training.checkpoint import checkpoint_step, list_checkpoints
from latentshift.training.rate import before_decay
from latentshift.training.recipe import NAMES_OF_DATA, AnyRecipe, DiffusionSettings, load_recipe

_MOST_TO_APPEAR = 60  # seconds
# What may change when a run goes on: its length and rhythm, how the arithmetic is done, samples and export.
_FREE = {"output", "steps", "log_every", "sample_every", "save_every", "keep_checkpoints", "compute", "loading"}
_FREE |= {"compile", "micro_batch_size", "max_dropped_steps", "trackers", "project", "validation"}
_FREE |= {"sample_steps", "sample_prompts", "guidance_scale", "weights", "export_from", "exports"}
# What a run would write over, and never makes before its recipe.
_AFTER_THE_RECIPE = ("checkpoints", "samples", "model", "lora.safetensors", "delta.safetensors", "metrics.jsonl")


def check_folder(recipe: AnyRecipe) -> None:
    """Make sure that the recipe's folder can be written to, and the run in it, if there is one, is of this recipe.

    Raises:
        ValueError: if it is of another, where the message names the difference; or for a folder with the base, or with
            what a run would write over.
        OSError: if it can't be written to.
    """
    output = recipe.output
    check_writable(output / "recipe.yaml")
    for base in (getattr(recipe, "model", None), getattr(recipe, "autoencoder", None)):
        if isinstance(base, str | Path) and Path(base).resolve() in (output.resolve(), (output / "model").resolve()):
            raise ValueError(f"{output} holds the model that the run begins from, {base}; choose another output")
    path = output / "recipe.yaml"
    for name in () if path.exists() else _AFTER_THE_RECIPE:
        if (output / name).exists():
            raise ValueError(
                f"{output} holds {name}, and no recipe.yaml that says of which run; put it back, or choose another "
                "output"
            )
    if path.exists() and list_checkpoints(output / "checkpoints"):
        # Read back through the validation, so that a setting that is new since then has its default.
        former = load_recipe(path)
        before, now = _that_holds(former), _that_holds(recipe)
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{output} holds a run of another recipe: {key} was {before.get(key)} and is now {now.get(key)}; "
                    "choose another output, or delete this one"
                )
        if former.steps != recipe.steps:
            newest = checkpoint_step(list_checkpoints(output / "checkpoints")[-1])
            full = before_decay(former)
            if full is None or newest > full:
                raise ValueError(
                    f"the learning rate of {output} was falling already towards its {former.steps} steps; go on "
                    "with that number" + ("" if full is None else f", or delete its checkpoints after step {full}")
                )


def _that_holds(recipe: AnyRecipe) -> dict[str, Any]:
    """The settings that may not change. What base and data are called may: a checkpoint knows what they were."""
    values = {key: value for key, value in recipe.model_dump(mode="json").items() if key not in _FREE}
    del values["optimizer"]["learning_rate"]  # a run may be calmed
    if isinstance(recipe, DiffusionSettings):
        values = {key: value for key, value in values.items() if key not in ("model", "autoencoder")}
        values["data"] = [
            {key: value for key, value in each.items() if key not in NAMES_OF_DATA} for each in values["data"]
        ]
    return values


@contextmanager
def held(output: Path, accelerator: Accelerator) -> Iterator[None]:
    """Inside, no other run that asks can go on in the folder, and all processes of this one see the same there.

    To be entered by every process; the main one holds the folder. Nothing is left of it, nor of an empty folder.

    Raises:
        ValueError: if another run is at work in it, or a process sees another folder at the same path.
        OSError: if nothing can be written there.
    """
    with _sign_put_up(output) if accelerator.is_main_process else nullcontext() as told:
        (told,) = broadcast_object_list([told])
        if told is not None:
            _find_sign(output, told)
        yield


@contextmanager
def _sign_put_up(output: Path) -> Iterator[str | None]:
    """What stands in the folder while this process holds it; None where its disk can't lock files."""
    path = _sign(output)
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    output.mkdir(parents=True, exist_ok=True)
    anothers = path.exists()
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
            f"warning: {path} can't be locked ({error.strerror}): see to it that no other run writes there",
            file=sys.stderr,
        )
        file = None
    told = f"{os.getpid()} on {platform.node()}"
    try:
        if file is not None:
            file.truncate(0)  # what a run that was killed has left
            file.write(told.encode())
            file.flush()
        yield None if file is None else told
    finally:
        if file is not None or not anothers:
            with suppress(OSError):  # on Windows an open file stays
                path.unlink(missing_ok=True)
        if file is not None:
            file.close()
        for folder in missing:
            with suppress(OSError):  # it holds what the run has made
                folder.rmdir()


def _find_sign(output: Path, told: str) -> None:
    for _ in range(_MOST_TO_APPEAR):
        with suppress(FileNotFoundError):
            if _sign(output).read_text() == told:
                return
        time.sleep(1)  # a shared disk may show what is new on it late
    raise ValueError(
        f"the processes don't share {output}: on several machines output must be a folder that all of them see"
    )


def _sign(output: Path) -> Path:
    return output / ".running"
