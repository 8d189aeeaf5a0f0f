"""What the averaged weights are good for: samples and validation now and then, and in the end the model."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from latentshift.pipeline import NotFiniteError
from latentshift.training.best import load_best, validated_steps
from latentshift.training.journal import Journal
from latentshift.training.learner import Learner
from latentshift.training.recipe import AnyRecipe, DiffusionSettings
from latentshift.training.stage import Stage
from latentshift.training.termination import Terminated, Termination


class Review:
    """Every method is to be called by all processes; it is the main one that does the work.

    A SIGTERM cuts a look short. What a look lacks, for that or for a kill, is made up for when the run goes on.
    """

    def __init__(
        self,
        stage: Stage,
        learner: Learner,
        recipe: AnyRecipe,
        accelerator: Accelerator,
        journal: Journal,
        termination: Termination,
    ) -> None:
        self.stage = stage
        self.learner = learner
        self.recipe = recipe
        self.accelerator = accelerator
        self.journal = journal
        self.termination = termination
        validation = recipe.validation if isinstance(recipe, DiffusionSettings) else None
        self.every = None if validation is None else validation.every

    def is_due(self, step: int) -> bool:
        """Whether the step that was just taken is one to sample or to validate at."""
        return any(self._due(step))

    def look(self, step: int, *, again: bool = False) -> None:
        """Sample and validate, if the step is one for that.

        Args:
            step: that was just taken.
            again: only what an earlier look at this step has left out.
        """
        sampled, validated = self._left_out(step) if again else self._due(step)
        if not (sampled or validated):
            return
        picture = self._picture(step)
        with self.learner.averaged():
            if self.accelerator.is_main_process:
                with suppress(Terminated), self.termination.waiting():
                    if validated:
                        self.journal.note_validation(step, self.stage.validate(), self.stage.question)
                    if sampled:
                        self._sample(picture, step)
        self.accelerator.wait_for_everyone()

    def _sample(self, picture: Path, step: int) -> None:
        try:
            self.stage.sample(picture.parent, step)
        except NotFiniteError as error:  # a run that diverges, or has only begun, may come round
            tqdm.write(f"warning: there are no samples of step {step}: {error}", file=sys.stderr)
        else:
            self.journal.show(step, picture)

    def _due(self, step: int) -> tuple[bool, bool]:
        """Whether to sample, and whether to validate."""
        last = step == self.recipe.steps
        sampled = last or step % self.recipe.sample_every == 0
        return sampled, self.every is not None and (last or step % self.every == 0)

    def _left_out(self, step: int) -> tuple[bool, bool]:
        sampled, validated = self._due(step)
        if self.accelerator.is_main_process:
            sampled = sampled and not self._picture(step).exists()
            validated = validated and step not in validated_steps(self.recipe.output, self.stage.question)
        # What it finds in the folder holds for all: it is going to change it.
        sampled, validated = broadcast_object_list([sampled, validated])
        return sampled, validated

    def _picture(self, step: int) -> Path:
        return self.recipe.output / "samples" / f"step-{step:08d}.png"

    def finish(self) -> None:
        """Write the finished model: of the last step, or of the best one.

        Raises:
            ValueError: if the recipe wants the best step, and there is none.
        """
        if getattr(self.recipe, "export_from", "last") == "best":
            self.learner.restore(load_best(self.recipe.output, self.stage.question))
        with self.learner.averaged():
            if self.accelerator.is_main_process:
                self.stage.export(self.recipe.output)
        self.accelerator.wait_for_everyone()
