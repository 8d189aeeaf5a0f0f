"""What the averaged weights are good for: samples and validation now and then, and in the end the model."""

from __future__ import annotations

import json
from pathlib import Path

from accelerate import Accelerator

from latentshift.training.journal import VALIDATION, Journal
from latentshift.training.learner import Learner
from latentshift.training.processes import any_process
from latentshift.training.recipe import AnyRecipe, DiffusionSettings
from latentshift.training.stage import Stage


class Review:
    """Made by the main process; every method is to be called by all of them."""

    def __init__(
        self, stage: Stage, learner: Learner, recipe: AnyRecipe, accelerator: Accelerator, journal: Journal
    ) -> None:
        self.stage = stage
        self.learner = learner
        self.recipe = recipe
        self.accelerator = accelerator
        self.journal = journal
        validation = recipe.validation if isinstance(recipe, DiffusionSettings) else None
        self.every = None if validation is None else validation.every

    def look(self, step: int) -> bool:
        """Sample and validate, if the step is one for that; whether no step before had so low an error."""
        last = step == self.recipe.steps
        sampled = last or step % self.recipe.sample_every == 0
        validated = self.every is not None and (last or step % self.every == 0)
        if not (sampled or validated):
            return False
        best = False
        with self.learner.averaged():
            if self.accelerator.is_main_process:
                if sampled:
                    folder = self.recipe.output / "samples"
                    self.stage.sample(folder, step)
                    self.journal.show(step, folder / f"step-{step:08d}.png")
                if validated:
                    self.journal.note_validation(step, self.stage.validate())
                    best = best_step(self.recipe.output) == step
        self.accelerator.wait_for_everyone()
        return any_process(best, self.accelerator)

    def finish(self) -> None:
        """Write the finished model."""
        with self.learner.averaged():
            if self.accelerator.is_main_process:
                self.stage.export(self.recipe.output)
        self.accelerator.wait_for_everyone()


def best_step(output: Path) -> int | None:
    """The step with the lowest validation error in a run's folder, the earliest of several; None without any."""
    path = output / VALIDATION
    if not path.exists():
        return None
    told = [json.loads(line) for line in path.read_text().splitlines()]
    return min(told, key=lambda line: (line["error"], line["step"]))["step"] if told else None
