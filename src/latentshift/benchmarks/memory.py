"""Peak memory of training steps and of a sample, measured beside what ``latentshift train --dry-run`` expects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

from latentshift.benchmarks.peak_memory import check_peak, forget_peak, peak
from latentshift.benchmarks.report import Result
from latentshift.memory.estimate import SAMPLES, Estimate, estimate
from latentshift.training.distributed import make_accelerator, split_batch
from latentshift.training.optimizer import learning_rate
from latentshift.training.precision import attention_backend
from latentshift.training.preflight import validate_run
from latentshift.training.recipe import AnyRecipe
from latentshift.training.run import build_stage
from latentshift.training.train_state import TrainState

_GIB = 2**30


@dataclass(frozen=True)
class MeasuredMemory:
    """Of one process on its device, in bytes.

    Attributes:
        estimated: of all moments.
        steps: measured over the steps, and over what was encoded for them.
        samples: measured while one was made; 0 if none was.
        losses: of the steps.
    """

    estimated: Estimate
    steps: int
    samples: int
    losses: tuple[float, ...]

    @property
    def steps_estimated(self) -> int:
        """What was expected of the steps."""
        return max(self.estimated.held(moment) for moment in self.estimated.moments if moment != SAMPLES)


def bench_memory(recipe: AnyRecipe, quick: bool = False) -> Iterator[Result]:
    """What is estimated of each part, then estimate beside measurement, and the losses of the steps.

    Raises:
        ValueError: as :func:`measure_memory`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure_memory(recipe, Path(scratch), quick=quick)
    for moment, parts in measured.estimated.moments.items():
        for name, size in parts.items():
            yield {"moment": moment, "part": name, "estimated_gib": size / _GIB}
    samples = measured.estimated.held(SAMPLES)
    compared = [("steps", measured.steps_estimated, measured.steps), ("samples", samples, measured.samples)]
    for what, expected, actual in compared:
        if actual:
            ratio = expected / actual
            yield {"what": what, "estimated_gib": expected / _GIB, "measured_gib": actual / _GIB, "ratio": ratio}
    for step, loss in zip(_steps(recipe.share_of_images, quick=quick), measured.losses, strict=True):
        yield {"step": step, "loss": loss}


def measure_memory(recipe: AnyRecipe, folder: Path, *, quick: bool = False) -> MeasuredMemory:
    """Take steps on whole clips, and single frames if the recipe has those, with its real model and data; and sample.

    On the CPU it is the memory of the whole process that is measured, of which other steps before may have left some.

    Args:
        recipe: of one process.
        folder: for what is encoded; the recipe's own is left alone.
        quick: two steps alone, and no sample.

    Raises:
        ValueError: for a base or data that can't be used, or a machine that does not tell what a process takes.
    """
    recipe = recipe.for_memory_benchmark(folder)
    validate_run(recipe, 1)
    accelerator = make_accelerator(recipe.compute)
    device = accelerator.device
    check_peak(device)
    expected = estimate(recipe, device)
    stage = build_stage(recipe, accelerator)
    state = TrainState(stage.objective, accelerator, recipe.optimizer, recipe.compute, ema_decay=recipe.ema_decay)
    state.objective.train()
    parts = recipe.micro_batches(1)
    losses = []
    forget_peak(device)
    for step in _steps(recipe.share_of_images, quick=quick):
        with closing(stage.batches(step)) as batches, attention_backend(recipe.compute.attention, device):
            result = state.step(
                split_batch(next(batches), parts, device), learning_rate(recipe.optimizer, step, recipe.steps)
            )
        assert result is not None
        losses.append(result.values["loss"])
    steps = peak(device)
    if quick:
        return MeasuredMemory(expected, steps, 0, tuple(losses))
    forget_peak(device)
    with state.averaged():
        stage.sample(folder / "samples", 0)
    return MeasuredMemory(expected, steps, peak(device), tuple(losses))


def _steps(images: float, *, quick: bool) -> list[int]:
    """The first two, since the optimizer's averages are there from the second on, and the first on single frames."""
    return [1, 2] + ([ceil(1 / Fraction(str(images)))] if images and not quick else [])
