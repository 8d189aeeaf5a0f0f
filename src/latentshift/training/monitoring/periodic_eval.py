"""Samples and validation of the averaged weights, every so many steps."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm

from latentshift.pipeline import NotFiniteError
from latentshift.preemption import SigtermHandler, Terminated
from latentshift.training.main_process import main_process_alone
from latentshift.training.monitoring.metric_logger import MetricLogger
from latentshift.training.monitoring.run_log import validation_errors
from latentshift.training.stages.base import Stage
from latentshift.training.train_state import TrainState
from latentshift.user_input.error_text import printable


class PeriodicEvaluator:
    """Every method is to be called by all processes; the main one does the work.

    SIGTERM cuts an evaluation short. What is missing, for that or for a kill, is done when the run is resumed.

    Args:
        stage: that samples and validates.
        output: the run's folder.
        accelerator: of the run.
        steps: of the whole run; the last one is always evaluated.
        sample_every: steps.
        validate_every: steps; None: there is no validation.
    """

    def __init__(
        self,
        stage: Stage,
        output: Path,
        accelerator: Accelerator,
        *,
        steps: int,
        sample_every: int,
        validate_every: int | None,
    ) -> None:
        self._stage = stage
        self._output = output
        self._accelerator = accelerator
        self._steps = steps
        self._sample_every = sample_every
        self._validate_every = validate_every

    def is_due(self, step: int) -> bool:
        """Whether samples or validation are due after a step."""
        return any(self._due(step))

    def evaluate_if_due(self, step: int, state: TrainState, logger: MetricLogger, sigterm: SigtermHandler) -> None:
        """Sample and validate, whichever is due after a step."""
        self._evaluate(step, *self._due(step), state, logger, sigterm)

    def complete(self, step: int, state: TrainState, logger: MetricLogger, sigterm: SigtermHandler) -> None:
        """After resuming from a step: do what was due then and is missing."""
        self._evaluate(step, *self._missing(step), state, logger, sigterm)

    def _evaluate(
        self,
        step: int,
        sample: bool,
        validate: bool,
        state: TrainState,
        logger: MetricLogger,
        sigterm: SigtermHandler,
    ) -> None:
        if not (sample or validate):
            return
        with state.averaged(), main_process_alone(self._accelerator) as alone:
            if alone:
                with suppress(Terminated), sigterm.interruptible():
                    if validate:
                        logger.log_validation(step, self._stage.validate(), self._stage.validation_id)
                    if sample:
                        self._sample(step, logger)
        self._accelerator.wait_for_everyone()

    def _sample(self, step: int, logger: MetricLogger) -> None:
        picture = self._picture(step)
        try:
            self._stage.sample(picture.parent, step)
        except NotFiniteError as error:  # a run that diverges, or has only begun, may recover
            tqdm.write(f"warning: there are no samples of step {step}: {printable(error)}", file=sys.stderr)
        else:
            logger.log_picture(step, picture)

    def _due(self, step: int) -> tuple[bool, bool]:
        """Whether to sample, and whether to validate."""
        last = step == self._steps
        validate = self._validate_every is not None and (last or step % self._validate_every == 0)
        return last or step % self._sample_every == 0, validate

    def _missing(self, step: int) -> tuple[bool, bool]:
        sample, validate = self._due(step)
        if self._accelerator.is_main_process:
            sample = sample and not self._picture(step).exists()
            validate = validate and step not in validation_errors(self._output, self._stage.validation_id)
        # Decided by the main process alone, since it is going to change the folder.
        sample, validate = broadcast_object_list([sample, validate])
        return sample, validate

    def _picture(self, step: int) -> Path:
        return self._output / "samples" / f"step-{step:08d}.png"
