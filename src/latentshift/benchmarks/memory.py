"""Peak memory of training steps and of a sample, measured beside what ``latentshift train --dry-run`` expects.

Steps are timed, too. The first also chooses kernels and takes memory.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import torch

from latentshift.benchmarks.peak_memory import check_peak, forget_peak, peak
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import spread
from latentshift.memory.estimate import SAMPLES, Estimate, estimate
from latentshift.training.distributed import make_accelerator, split_batch
from latentshift.training.optimizer import learning_rate
from latentshift.training.precision import attention_backend
from latentshift.training.preflight import validate_run
from latentshift.training.recipe import AnyRecipe
from latentshift.training.run import build_stage
from latentshift.training.train_state import TrainState

LEAST_STEPS = 2  # the optimizer's averages are there from the second on
_GIB = 2**30


@dataclass(frozen=True)
class MeasuredMemory:
    """Of one process on its device, in bytes.

    Attributes:
        estimated: of all moments.
        steps: measured over the steps, and over what was encoded for them.
        samples: measured while one was made; 0 if none was.
        losses: of the steps.
        seconds: of the steps, of the wall, without what it took to read their clips.
    """

    estimated: Estimate
    steps: int
    samples: int
    losses: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def steps_estimated(self) -> int:
        """What was expected of the steps."""
        return max(self.estimated.held(moment) for moment in self.estimated.moments if moment != SAMPLES)


def bench_memory(recipe: AnyRecipe, count: int = LEAST_STEPS, quick: bool = False) -> Iterator[Result]:
    """What is estimated of each part, estimate beside measurement, loss and seconds of each step, and their speed.

    The speed is the median over all steps on clips but the first, with the lowest and the highest.

    Args:
        recipe: of one process.
        count: steps on clips, 2 or more.
        quick: these alone, and no sample.

    Raises:
        ValueError: as :func:`measure_memory`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure_memory(recipe, Path(scratch), count, quick=quick)
    for moment, parts in measured.estimated.moments.items():
        for name, size in parts.items():
            yield {"moment": moment, "part": name, "estimated_gib": size / _GIB}
    samples = measured.estimated.held(SAMPLES)
    compared = [("steps", measured.steps_estimated, measured.steps), ("samples", samples, measured.samples)]
    for what, expected, actual in compared:
        if actual:
            ratio = expected / actual
            yield {"what": what, "estimated_gib": expected / _GIB, "measured_gib": actual / _GIB, "ratio": ratio}
    steps = measured_steps(count, recipe.share_of_images, quick=quick)
    for step, loss, seconds in zip(steps, measured.losses, measured.seconds, strict=True):
        yield {"step": step, "loss": loss, "seconds": seconds}
    yield {f"{recipe.unit}_a_second": spread([recipe.batch_size / each for each in measured.seconds[1:count]])}


def measure_memory(recipe: AnyRecipe, folder: Path, count: int = LEAST_STEPS, *, quick: bool = False) -> MeasuredMemory:
    """Take steps on whole clips, and single frames if the recipe has those, with its real model and data; and sample.

    On the CPU it is the memory of the whole process that is measured, of which other steps before may have left some.

    Args:
        recipe: of one process.
        folder: for what is encoded; the recipe's own is left alone.
        count: steps on clips, 2 or more.
        quick: these alone, and no sample.

    Raises:
        ValueError: for fewer steps, a base or data that can't be used, or a machine that does not tell what a process
            takes.
    """
    if count < LEAST_STEPS:
        raise ValueError(f"{LEAST_STEPS} steps or more are to be taken, not {count}")
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
    losses, seconds = [], []
    forget_peak(device)
    for step in measured_steps(count, recipe.share_of_images, quick=quick):
        with closing(stage.batches(step)) as batches, attention_backend(recipe.compute.attention, device):
            batch = split_batch(next(batches), parts, device)
            start = time.perf_counter()
            result = state.step(batch, learning_rate(recipe.optimizer, step, recipe.steps))
        assert result is not None
        losses.append(result.values["loss"])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    steps = peak(device)
    if quick:
        return MeasuredMemory(expected, steps, 0, tuple(losses), tuple(seconds))
    forget_peak(device)
    with state.averaged():
        stage.sample(folder / "samples", 0)
    return MeasuredMemory(expected, steps, peak(device), tuple(losses), tuple(seconds))


def measured_steps(count: int, images: float, *, quick: bool) -> list[int]:
    """The numbers of the steps to take: the first ``count`` on clips, and the first on single frames.

    Args:
        count: steps on clips.
        images: the share of the steps that are on single frames, in [0, 1).
        quick: without these.
    """
    share = Fraction(str(images))
    on_clips = (step for step in itertools.count(1) if floor(step * share) == floor((step - 1) * share))
    return [*itertools.islice(on_clips, count), *([ceil(1 / share)] if images and not quick else [])]
