"""What the training loop works with, built from a recipe. None of them holds another: the loop hands them on."""

from __future__ import annotations

from typing import NamedTuple

from accelerate import Accelerator

from latentshift.preemption import SigtermHandler
from latentshift.training.checkpoints.checkpointer import Checkpointer
from latentshift.training.data.report import DataReport
from latentshift.training.monitoring.metric_logger import MetricLogger
from latentshift.training.monitoring.periodic_eval import PeriodicEvaluator
from latentshift.training.monitoring.run_log import best_step
from latentshift.training.recipe import AnyRecipe
from latentshift.training.stages.base import Stage
from latentshift.training.train_state import TrainState


class Collaborators(NamedTuple):
    """Of one run.

    Attributes:
        state: the trained weights, their optimizer and their average.
        logger: of metrics and samples.
        checkpointer: saves and resumes.
        evaluator: samples and validates.
        report: of the data.
        sigterm: records SIGTERM while it is entered.
    """

    state: TrainState
    logger: MetricLogger
    checkpointer: Checkpointer
    evaluator: PeriodicEvaluator
    report: DataReport
    sigterm: SigtermHandler


def build_collaborators(
    stage: Stage, recipe: AnyRecipe, accelerator: Accelerator, *, quiet: bool = False
) -> Collaborators:
    """What a run of a stage works with; nothing is read or written yet.

    Args:
        stage: that is trained.
        recipe: of the run.
        accelerator: of the run.
        quiet: without a progress bar.
    """
    output = recipe.output
    return Collaborators(
        TrainState(
            stage.objective,
            accelerator,
            recipe.optimizer,
            recipe.compute,
            ema_decay=recipe.ema_decay,
            ema_warmup=recipe.ema_warmup,
            image_share=recipe.share_of_images,
        ),
        MetricLogger(
            output,
            accelerator,
            name=recipe.stage,
            steps=recipe.steps,
            samples_until=stage.samples_until,
            log_every=recipe.log_every,
            project=recipe.project,
            unit=recipe.unit,
            quiet=quiet,
        ),
        Checkpointer(
            output / "checkpoints",
            stage.fingerprint,
            accelerator,
            keep=recipe.keep_checkpoints,
            keep_always=lambda: (recipe.last_full_rate_step, best_step(output, stage.validation_id)),
            quiet=quiet,
        ),
        PeriodicEvaluator(
            stage,
            output,
            accelerator,
            steps=recipe.steps,
            sample_every=recipe.sample_every,
            validate_every=recipe.validate_every,
        ),
        DataReport(output / "data.json", stage, accelerator),
        SigtermHandler(),
    )
