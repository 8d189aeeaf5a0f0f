"""A run's folder: whether a recipe may go on in it, and that one run at a time does."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latentshift.lock import open_alone
from latentshift.training.checkpoint import checkpoint_step, list_checkpoints
from latentshift.training.rate import before_decay
from latentshift.training.recipe import AnyRecipe, load_recipe
from latentshift.whole import check_place

_MOST_TO_APPEAR = 60  # seconds


def check_folder(recipe: AnyRecipe) -> None:
    """Make sure that the recipe's folder can be written to, and the run in it, if there is one, is of this recipe.

    Raises:
        ValueError: if it is of another; the message names the difference.
        OSError: if it can't be written to.
    """
    output = recipe.output
    check_place(output / "recipe.yaml")
    for base in (getattr(recipe, "model", None), getattr(recipe, "autoencoder", None)):
        if isinstance(base, str | Path) and Path(base).resolve() in (output.resolve(), (output / "model").resolve()):
            raise ValueError(f"{output} holds the model that the run begins from, {base}; choose another output")
    # What may change between two runs of one folder: its length and rhythm, and how the arithmetic is done.
    free = {"output", "steps", "log_every", "sample_every", "save_every", "keep_checkpoints", "compute", "loading"}
    free |= {"compile", "micro_batch_size", "max_dropped_steps", "trackers", "project", "validation"}
    free |= {
        "sample_steps",
        "sample_prompts",
        "guidance_scale",
        "weights",
        "export_from",
        "exports",
    }  # of the samples and the export alone
    path = output / "recipe.yaml"
    if path.exists() and list_checkpoints(output / "checkpoints"):
        # Read back through the validation, so that a setting that is new since then has its default.
        before, now = load_recipe(path).model_dump(mode="json"), recipe.model_dump(mode="json")
        before["optimizer"]["learning_rate"] = now["optimizer"]["learning_rate"]  # a run may be calmed
        for key in sorted((set(before) | set(now)) - free):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{output} holds a run of another recipe: {key} was {before.get(key)} and is now {now.get(key)}; "
                    "choose another output, or delete this one"
                )
        if before["steps"] != now["steps"]:
            newest = checkpoint_step(list_checkpoints(output / "checkpoints")[-1])
            full = before_decay(load_recipe(path))
            if full is None or newest > full:
                raise ValueError(
                    f"the learning rate of {output} was falling already towards its {before['steps']} steps; go on "
                    "with that number" + ("" if full is None else f", or delete its checkpoints after step {full}")
                )


@contextmanager
def held(output: Path) -> Iterator[str | None]:
    """Inside, no other run that asks can go on in the folder; nothing is left of it, nor of an empty folder.

    Yields:
        What stands in the folder meanwhile, for :func:`check_shared`; None where its disk can't lock files.

    Raises:
        ValueError: if another run is at work in it.
        OSError: if nothing can be written there.
    """
    path = _sign(output)
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    output.mkdir(parents=True, exist_ok=True)
    try:
        file = open_alone(path)
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
        yield None
        return
    try:
        file.truncate(0)  # what a run that was killed has left
        file.write((told := f"{os.getpid()} on {platform.node()}").encode())
        file.flush()
        yield told
    finally:
        path.unlink(missing_ok=True)
        file.close()
        for folder in missing:
            with suppress(OSError):  # it holds what the run has made
                folder.rmdir()


def check_shared(output: Path, told: str | None) -> None:
    """Make sure that a folder which another process holds is the one that this process sees at the same path.

    Args:
        output: the folder.
        told: what :func:`held` has given there.

    Raises:
        ValueError: if it is not, or is not to be seen within a minute.
    """
    for _ in range(_MOST_TO_APPEAR):
        with suppress(FileNotFoundError):
            if told is None or _sign(output).read_text() == told:
                return
        time.sleep(1)  # a shared disk may show what is new on it late
    raise ValueError(
        f"the processes don't share {output}: on several machines output must be a folder that all of them see"
    )


def _sign(output: Path) -> Path:
    return output / ".running"
