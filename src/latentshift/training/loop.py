"""The loop: batches into an objective, gradients into weights, averages, checkpoints and samples beside them.

One loop for all stages, on accelerate, on one process or on several. Running the same command again goes on from the
newest checkpoint; the batch of a step is a function of the step, so nothing is seen twice or left out.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress

import numpy as np
import torch
from accelerate import Accelerator

from latentshift.training.arithmetic import attention_backend
from latentshift.training.journal import Journal
from latentshift.training.learner import Learner
from latentshift.training.processes import any_process, parts_of_a_share, split
from latentshift.training.rate import before_decay, learning_rate
from latentshift.training.recipe import AnyRecipe
from latentshift.training.review import Review
from latentshift.training.saver import Saver
from latentshift.training.stage import Stage
from latentshift.training.termination import Terminated, Termination


def fit(stage: Stage, recipe: AnyRecipe, accelerator: Accelerator, *, quiet: bool = False) -> None:
    """Train a stage to the end of its recipe and export it; takes an interrupted run up again.

    The run's folder has been through :func:`latentshift.training.folder.check_folder`.

    Raises:
        ValueError: if no checkpoint is whole, or they are of another base, or too many steps in a row were left out.
        Terminated: after SIGTERM, when all that was learned is saved.
        OSError: if a checkpoint can't be written.
    """
    learner = Learner(stage.objective, recipe, accelerator)
    saver = Saver(stage, learner, recipe, accelerator)
    step = saver.take_up()
    saver.begin()
    parts = parts_of_a_share(recipe, accelerator.num_processes)

    def asked() -> bool:
        return any_process(termination.asked, accelerator)  # they have to end at the same place

    with (
        Termination() as termination,
        saver.reporting(),
        Journal(recipe, step, saver.pending, accelerator, quiet=quiet) as journal,
        closing(stage.batches(step + 1)) as batches,
    ):
        review = Review(stage, learner, recipe, accelerator, journal, termination)
        learner.objective.train()
        if step:
            review.look(step, again=True)
        while step < recipe.steps:
            start = time.perf_counter()
            rate = learning_rate(recipe.optimizer, step + 1, recipe.steps)
            torch.manual_seed(_seed_of(recipe, step + 1, accelerator))
            with suppress(Terminated), termination.waiting():
                batch = next(batches)
            waited = time.perf_counter() - start
            if asked():  # of several processes, one may have no batch now
                break
            with attention_backend(recipe, accelerator.device):
                learned = learner.learn(split(batch, parts, accelerator.device), rate, goes_on=lambda: not asked())
            if learned is None:
                break
            step += 1
            seconds = time.perf_counter() - start
            journal.note(step, learned, {"learning_rate": rate, "waiting_for_data": waited / seconds}, seconds)
            if learned.dropped:
                saver.note_dropped(step, learned.values, batch)
            if step in (recipe.steps, before_decay(recipe)):
                saver.save(step, journal.pending, anyhow=True)
            elif step % recipe.save_every == 0:
                saver.save(step, journal.pending)
            if review.is_due(step):
                saver.save(step, journal.pending)  # whatever becomes of the look, what was learned is kept
                review.look(step)
        if asked():
            saver.save(step, journal.pending, anyhow=True)
            raise Terminated(f"ended by SIGTERM after step {step}; the same command goes on from there")
        review.finish()


def _seed_of(recipe: AnyRecipe, step: int, accelerator: Accelerator) -> int:
    """Of a step's dropout, which alone draws from torch's own generator: it needs no place in a checkpoint so."""
    return int(np.random.SeedSequence([recipe.seed, step, accelerator.process_index]).generate_state(1, np.uint64)[0])
