"""The training loop of all stages, on one process or several (accelerate).

Running the same command again resumes from the newest checkpoint; the batch of a step is a function of the step, so no
sample is repeated or left out.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from latentshift.files import atomic_write_text
from latentshift.models.storage.model_paths import DATA_SETTINGS
from latentshift.preemption import Terminated
from latentshift.progress import status
from latentshift.training.checkpoints.checkpointer import Checkpointer
from latentshift.training.collaborators import Collaborators, build_collaborators
from latentshift.training.distributed import any_process, complete_last_collective, split_batch
from latentshift.training.main_process import main_process_alone
from latentshift.training.monitoring.run_log import load_best_checkpoint
from latentshift.training.optimizer import learning_rate
from latentshift.training.precision import attention_backend
from latentshift.training.preflight import rate_change
from latentshift.training.recipe import AnyRecipe
from latentshift.training.run_folder import write_run_info
from latentshift.training.stages.base import Stage
from latentshift.training.train_state import TrainState
from latentshift.user_input.error_text import one_line, printable


def fit(stage: Stage, recipe: AnyRecipe, accelerator: Accelerator, *, quiet: bool = False) -> None:
    """Train a stage to the last step of its recipe and export it; an interrupted run is resumed.

    The run's folder has been checked by :func:`latentshift.training.preflight.validate_run`.

    Raises:
        ValueError: if no checkpoint is intact, or they are of another base, or too many steps in a row were dropped.
        Terminated: after SIGTERM, when the progress is saved.
        OSError: if a checkpoint can't be written.
    """
    output, steps = recipe.output, recipe.steps
    parts = build_collaborators(stage, recipe, accelerator, quiet=quiet)
    state, logger, checkpointer, evaluator, report, sigterm = parts
    micro_batches = recipe.micro_batches(accelerator.num_processes)

    def stop_requested() -> bool:
        return any_process(sigterm.stop_requested, accelerator)  # all processes have to stop at the same step

    step = checkpointer.resume(state, logger)
    if step > steps:
        raise ValueError(f"{output} has been trained for {step} steps already, more than the {steps} asked for")
    if accelerator.is_main_process and step < steps and (change := rate_change(recipe, step)) is not None:
        print(f"warning: {printable(change)}", file=sys.stderr)
    write_run_info(output, recipe, accelerator)
    report.write()
    with sigterm, report.written_at_exit(), logger.opened(step), closing(stage.batches(step + 1)) as batches:
        state.objective.train()
        if step:
            evaluator.complete(step, state, logger, sigterm)
        while step < steps:
            torch.manual_seed(_step_seed(recipe.seed, step + 1, accelerator.process_index))
            start = time.perf_counter()
            with suppress(Terminated), sigterm.interruptible():
                batch = next(batches)
            waited = time.perf_counter() - start
            if stop_requested():  # one of several processes may have no batch then
                break
            rate = learning_rate(recipe.optimizer, step + 1, steps)
            with attention_backend(recipe.compute.attention, accelerator.device):
                result = state.step(
                    split_batch(batch, micro_batches, accelerator.device),
                    rate,
                    should_continue=lambda: not stop_requested(),
                )
            if result is None:
                break
            step += 1
            seconds = time.perf_counter() - start
            logger.log_step(step, result, {"learning_rate": rate, "waiting_for_data": waited / seconds}, seconds)
            if result.dropped:
                logger.log_dropped(step, result.values, batch.names())
                if state.dropped_in_a_row > recipe.max_dropped_steps:
                    raise ValueError(_diverged(step, state.dropped_in_a_row, output, checkpointer))
            _save_if_due(step, recipe, parts)
            evaluator.evaluate_if_due(step, state, logger, sigterm)
        if stop_requested():
            checkpointer.save(step, state, logger)
            report.write()
            complete_last_collective(accelerator)
            raise Terminated(f"ended by SIGTERM after step {step}; the same command resumes from there")
        if recipe.exports_best:
            state.restore(load_best_checkpoint(output, stage.validation_id))
        _export(stage, state, output, accelerator, quiet=quiet)


def _save_if_due(step: int, recipe: AnyRecipe, parts: Collaborators) -> None:
    """Save a checkpoint where the recipe has one, with the report of the data so far."""
    state, checkpointer = parts.state, parts.checkpointer
    if step in (recipe.steps, recipe.last_full_rate_step):
        checkpointer.save(step, state, parts.logger)
    elif step % recipe.save_every == 0 or parts.evaluator.is_due(step):
        checkpointer.save(step, state, parts.logger, last_update=step - state.dropped_in_a_row)
    if checkpointer.saved == step:
        parts.report.write()


def _export(stage: Stage, state: TrainState, output: Path, accelerator: Accelerator, *, quiet: bool) -> None:
    """Export the averaged weights."""
    with state.averaged(), main_process_alone(accelerator) as alone:
        if alone:
            with status("exporting the model", shown=not quiet):
                try:
                    stage.export(output)
                    for folder in (output / "model", output / "controlnet"):
                        if folder.is_dir():
                            atomic_write_text(folder / DATA_SETTINGS, (output / DATA_SETTINGS).read_text())
                except (OSError, SafetensorError) as error:  # the latter where the disk is full
                    raise OSError(
                        f"the trained model can't be written to {output} ({one_line(error)}); its last step is saved: "
                        "make room there, and run again"
                    ) from error
    accelerator.wait_for_everyone()


def _step_seed(seed: int, step: int, process: int) -> int:
    """For dropout, which alone draws from torch's global generator: so its state need not be in a checkpoint."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0])


def _diverged(step: int, dropped: int, output: object, checkpointer: Checkpointer) -> str:
    saved = checkpointer.saved
    resumes = f"resumes from step {saved} in {checkpointer.folder}" if saved else "starts over"
    return (
        f"the loss or its gradient was not finite in {dropped} steps in a row, the last of them step {step} "
        f"({output}/dropped.jsonl names their samples); lower optimizer.learning_rate and run again: it {resumes}"
    )
