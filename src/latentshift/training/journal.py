"""What is said of a run while it goes on: progress bar, ``metrics.jsonl``, TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from latentshift.training.learner import Learned
from latentshift.training.recipe import AnyRecipe


class Journal:
    """Takes in each step's values and writes their means."""

    def __init__(self, recipe: AnyRecipe, step: int, *, quiet: bool, writes: bool = True) -> None:
        self.recipe = recipe
        self.board = self.lines = None
        if writes:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(recipe.output / "tensorboard"), purge_step=step + 1)
            self.lines = _open_log(recipe.output / "metrics.jsonl", step)
        self.bar = tqdm(
            total=recipe.steps, initial=step, desc=recipe.stage, unit="step", disable=quiet, mininterval=1.0
        )
        self.sums: dict[str, tuple[float, int]] = {}
        self.count = 0
        self.dropped = 0
        self.seconds = 0.0

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        for log in (self.board, self.lines):
            if log is not None:
                log.close()

    def note(self, step: int, learned: Learned, more: dict[str, float], seconds: float) -> None:
        """Take in a step's values and time; their means are written every ``log_every`` steps and at the end."""
        recipe = self.recipe
        for name, value in {**({} if learned.dropped else learned.values), **more}.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1
        self.count += 1
        self.dropped += learned.dropped
        self.seconds += seconds
        self.bar.update()
        if step % recipe.log_every and step != recipe.steps:
            return
        means = {name: total / count for name, (total, count) in self.sums.items()}
        means["dropped_steps"] = self.dropped
        means["samples_per_second"] = round(self.count * recipe.batch_size / self.seconds, 2)
        self.sums, self.count, self.dropped, self.seconds = {}, 0, 0, 0.0
        if self.board is not None and self.lines is not None:
            for name, value in means.items():
                self.board.add_scalar(name, value, step)
            self.lines.write(json.dumps({"step": step, "samples": step * recipe.batch_size, **means}) + "\n")
            self.lines.flush()
        unit = "clips/s" if recipe.stage == "video" else "images/s"
        loss = f"{means['loss']:.4f}" if "loss" in means else "not finite"
        self.bar.set_postfix({"loss": loss, unit: f"{means['samples_per_second']:.1f}"})


def _open_log(path: Path, step: int) -> TextIO:
    # What a broken run logged after its newest checkpoint is going to be logged again.
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))
    return path.open("a")
