"""The loop: batches into an objective, gradients into weights, averages, checkpoints and samples beside them.

One loop for all stages, on accelerate. Running the same command again goes on from the newest checkpoint; the batch of
a step is a function of the step, so nothing is seen twice or left out.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentshift.training.checkpoint import drop_checkpoints, load_newest_checkpoint, save_checkpoint
from latentshift.training.journal import Journal
from latentshift.training.learner import Learner
from latentshift.training.rate import before_decay, learning_rate
from latentshift.training.recipe import AnyRecipe, dump_recipe
from latentshift.whole import whole, write_whole


class Stage(Protocol):
    """What the loop has to be told of a stage."""

    @property
    def objective(self) -> nn.Module:
        """From a batch to a dict of scalars, of which ``loss`` is trained on; holds all that is trained."""

    def batches(self, step: int) -> Generator[Any]:
        """The batches from that of step ``step`` (1, 2, …) on, endlessly, on the CPU: dataclasses of tensors."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the run began from; a checkpoint goes on only with the same."""

    def report(self) -> dict[str, Any]:
        """What there is to say of the data so far, in plain values."""

    def sample(self, folder: Path, step: int) -> None:
        """Write samples of the current weights, to be looked at."""

    def export(self, folder: Path) -> None:
        """Write the finished model, of the current weights."""


def accelerator_for(recipe: AnyRecipe) -> Accelerator:
    """The accelerate object that a recipe's compute settings ask for."""
    compute = recipe.compute
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    if compute.precision == "fp16" and (compute.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("compute.precision fp16 needs a GPU; on the CPU choose bf16 or fp32")
    if compute.device.startswith("cuda:"):
        torch.cuda.set_device(compute.device)
    AcceleratorState._reset_state()  # else a second run in one process could not choose again
    precision = "no" if compute.precision == "fp32" else compute.precision
    accelerator = Accelerator(mixed_precision=precision, cpu=compute.device == "cpu")
    if accelerator.num_processes > 1:
        raise ValueError(f"training runs on one process so far, not on {accelerator.num_processes}")
    return accelerator


def fit(stage: Stage, recipe: AnyRecipe, accelerator: Accelerator, *, quiet: bool = False) -> None:
    """Train a stage to the end of its recipe and export it; takes an interrupted run up again.

    The run's folder has been through :func:`latentshift.training.folder.check_folder`.

    Raises:
        ValueError: if a checkpoint is damaged or of another base, or the loss is not finite.
    """
    output, compute = recipe.output, recipe.compute
    checkpoints = output / "checkpoints"
    memory_format = torch.channels_last if compute.channels_last else torch.contiguous_format
    stage.objective.to(accelerator.device, memory_format=memory_format)  # type: ignore[call-overload]
    learner = Learner(stage.objective, recipe, accelerator)
    step = 0
    checkpoint, complaints = load_newest_checkpoint(checkpoints)
    if complaints and checkpoint is None:
        raise ValueError(f"{complaints[0]}, and none is whole; delete {checkpoints} to begin anew")
    for complaint in complaints:
        print(f"warning: {complaint}; going on from the one before", file=sys.stderr)
    if checkpoint is not None:
        step = checkpoint.step
        if step > recipe.steps:
            raise ValueError(
                f"{output} has been trained for {step} steps already, more than the {recipe.steps} asked for"
            )
        before = checkpoint.values.get("fingerprint", {})
        changed = [name for name, digest in stage.fingerprint.items() if before.get(name) != digest]
        if changed:
            raise ValueError(
                f"{output} began with another {changed[0]}, which has changed since; choose another output"
            )
        learner.restore(checkpoint)
    write_whole(output / "recipe.yaml", dump_recipe(recipe))

    _write_report(output, stage)
    with (
        Journal(recipe, step, quiet=quiet) as journal,
        _reported(output, stage),
        closing(stage.batches(step + 1)) as batches,
    ):
        learner.objective.train()
        while step < recipe.steps:
            step += 1
            start = time.perf_counter()
            rate = learning_rate(recipe.optimizer, step, recipe.steps)
            batch = _to_device(next(batches), accelerator.device)
            waited = time.perf_counter() - start
            with _attention(compute.attention):
                values = learner.learn(batch, rate)
            if not math.isfinite(values["loss"]):
                raise ValueError(
                    f"the loss is not finite at step {step}; lower optimizer.learning_rate and run again: it goes on "
                    f"from the newest checkpoint in {checkpoints}, which is from before"
                )
            seconds = time.perf_counter() - start
            journal.note(step, {**values, "learning_rate": rate, "waiting_for_data": waited / seconds}, seconds)
            if step % recipe.save_every == 0 or step in (recipe.steps, before_decay(recipe)):
                values_kept = {"fingerprint": stage.fingerprint, **learner.values()}
                save_checkpoint(checkpoints, step, learner.tensors(), values_kept)
                drop_checkpoints(checkpoints, recipe.keep_checkpoints, always=before_decay(recipe))
                _write_report(output, stage)
            if step % recipe.sample_every == 0 and step < recipe.steps:
                with learner.averaged():
                    stage.sample(output / "samples", step)
    with learner.averaged():
        stage.sample(output / "samples", step)
        with whole(output / "model") as temporary:
            stage.export(temporary)


def _attention(backend: str) -> AbstractContextManager[None]:
    return sdpa_kernel(SDPBackend.MATH) if backend == "math" else nullcontext()


def _to_device(batch: Any, device: torch.device) -> Any:
    moved = {name: None if value is None else value.to(device) for name, value in vars(batch).items()}
    return type(batch)(**moved)


@contextmanager
def _reported(output: Path, stage: Stage) -> Iterator[None]:
    """Whatever ends it, what was learned of the data is kept."""
    try:
        yield
    finally:
        _write_report(output, stage)


def _write_report(output: Path, stage: Stage) -> None:
    write_whole(output / "data.json", json.dumps(stage.report(), indent=1, ensure_ascii=False) + "\n")
