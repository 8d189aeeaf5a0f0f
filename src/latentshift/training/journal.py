"""What is said of a run while it goes on: progress bar, ``metrics.jsonl``, trackers."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from tqdm import tqdm

from latentshift.error_text import one_line
from latentshift.training.best import VALIDATION
from latentshift.training.learner import Learned
from latentshift.training.lines import add_line, forget_after
from latentshift.training.recipe import AnyRecipe


class Journal:
    """Takes in each step's values and writes their means.

    Args:
        recipe: of the run.
        step: that it goes on from.
        pending: what :attr:`pending` was then; None at the beginning of a run.
        accelerator: of the run.
        quiet: without a progress bar.

    Attributes:
        pending: the sums of what was taken in and not written yet, for a checkpoint.
    """

    def __init__(
        self, recipe: AnyRecipe, step: int, pending: dict[str, Any] | None, accelerator: Accelerator, *, quiet: bool
    ) -> None:
        self.recipe = recipe
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        name = hashlib.sha256(str(recipe.output.absolute()).encode()).hexdigest()[:12]
        wandb = {"dir": str(recipe.output), "name": recipe.output.name, "id": name, "resume": "allow"}
        options = {"tensorboard": {"purge_step": step + 1}, "wandb": wandb, "trackio": {"name": recipe.output.name}}
        accelerator.trackers.clear()
        try:
            accelerator.init_trackers(recipe.project, init_kwargs=options)
        except Exception as error:  # each library raises what it likes
            names = ", ".join(recipe.trackers)
            raise ValueError(
                f"trackers ({names}) can't begin: {one_line(error)}; mend that, or leave it out"
            ) from error
        for log in ("metrics.jsonl", VALIDATION, "dropped.jsonl"):
            if self.main:
                forget_after(recipe.output / log, step)
        self.bar = tqdm(
            total=recipe.steps,
            initial=step,
            desc=recipe.stage,
            unit="step",
            disable=quiet or not self.main,
            mininterval=1.0,
        )
        self.pending = pending or _nothing()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self._tell(lambda tracker: tracker.finish())  # `end_training` would part the processes too

    def note(self, step: int, learned: Learned, more: dict[str, float], seconds: float) -> None:
        """Take in a step's values and time; their means are written every ``log_every`` steps and at the end."""
        recipe, pending = self.recipe, self.pending
        for name, value in {**({} if learned.dropped else learned.values), **more}.items():
            total, count = pending["sums"].get(name, (0.0, 0))
            pending["sums"][name] = total + value, count + 1
        pending["steps"] += 1
        pending["dropped"] += learned.dropped
        pending["seconds"] += seconds
        self.bar.update()
        if step % recipe.log_every and step != recipe.steps:
            return
        means = {name: total / count for name, (total, count) in pending["sums"].items()}
        means["dropped_steps"] = pending["dropped"]
        means["samples_per_second"] = round(pending["steps"] * recipe.batch_size / pending["seconds"], 2)
        self.pending = _nothing()
        self._write("metrics.jsonl", step, {"samples": step * recipe.batch_size, **means})
        self._tell(lambda tracker: tracker.log(means, step=step))
        unit = "clips/s" if recipe.stage == "video" else "images/s"
        loss = f"{means['loss']:.4f}" if "loss" in means else "not finite"
        self.bar.set_postfix({"loss": loss, unit: f"{means['samples_per_second']:.1f}"})

    def note_validation(self, step: int, values: dict[str, float], asked: str | None) -> None:
        """Take in what was measured on fixed data, and by which question."""
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self._write(VALIDATION, step, {**numbers, "asked": asked})
        named = {f"validation/{name}": value for name, value in values.items()}
        self._tell(lambda tracker: tracker.log(named, step=step))

    def show(self, step: int, picture: Path) -> None:
        """Hand a picture of the samples on to the trackers that show pictures."""
        if not picture.exists():
            return
        from PIL import Image

        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"))[None]

        def show(tracker: GeneralTracker) -> None:
            if tracker.name == "tensorboard":
                tracker.log_images({"samples": pixels}, step=step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({"samples": list(pixels)}, step=step)

        self._tell(show)

    def _tell(self, tell: Callable[[GeneralTracker], None]) -> None:
        """Tell every tracker; one that fails is told no more, for the run is worth more than its picture."""
        for tracker in list(self.accelerator.trackers):
            try:
                tell(tracker)
            except Exception as error:  # each library raises what it likes
                self.accelerator.trackers.remove(tracker)
                tqdm.write(
                    f"warning: {tracker.name} is told no more, since it failed: {one_line(error)}", file=sys.stderr
                )

    def _write(self, name: str, step: int, values: dict[str, Any]) -> None:
        if self.main:
            add_line(self.recipe.output / name, {"step": step, **values})


def _nothing() -> dict[str, Any]:
    return {"sums": {}, "steps": 0, "dropped": 0, "seconds": 0.0}
