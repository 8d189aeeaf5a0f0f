"""The loop: batches into an objective, gradients into weights, averages, checkpoints and samples beside them.

One loop for all stages, on accelerate. Running the same command again goes on from the newest checkpoint; the batch of
a step is a function of the step, so nothing is seen twice or left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from latentshift.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from latentshift.training.recipe import AnyRecipe, OptimizerSettings, dump_recipe, load_recipe


class Stage(Protocol):
    """What the loop has to be told of a stage."""

    @property
    def objective(self) -> nn.Module:
        """From a batch to a dict of scalars, of which ``loss`` is trained on; holds all that is trained."""

    def batch(self, step: int) -> Any:
        """The batch of step ``step`` (1, 2, …), on the CPU: a dataclass of tensors."""

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

    Raises:
        ValueError: if the run's folder is another recipe's, a checkpoint is damaged, or the loss is not finite.
    """
    from torch.utils.tensorboard import SummaryWriter

    output = recipe.output
    check_folder(recipe)
    output.mkdir(parents=True, exist_ok=True)
    temporary = output / "recipe.tmp"
    temporary.write_text(dump_recipe(recipe))
    os.replace(temporary, output / "recipe.yaml")
    objective = stage.objective
    memory_format = torch.channels_last if recipe.compute.channels_last else torch.contiguous_format
    objective.to(accelerator.device, memory_format=memory_format)  # type: ignore[call-overload]
    trained = {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(
        trained.values(),
        lr=recipe.optimizer.learning_rate,
        betas=recipe.optimizer.betas,
        weight_decay=recipe.optimizer.weight_decay,
        fused=True,
    )
    average = EMAModel(
        trained.values(), decay=recipe.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True
    )

    step = 0
    checkpoints = output / "checkpoints"
    done = False
    if found := list_checkpoints(checkpoints):
        checkpoint = load_checkpoint(found[-1])
        step = checkpoint.step
        if step > recipe.steps:
            raise ValueError(
                f"{output} has been trained for {step} steps already, more than the {recipe.steps} asked for"
            )
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(checkpoint.tensors["weights"][name])
        for shadow, name in zip(average.shadow_params, trained, strict=True):
            shadow.copy_(checkpoint.tensors["average"][name])
        average.optimization_step = step
        done = step == recipe.steps
        load_optimizer_tensors(optimizer, checkpoint.tensors["optimizer"])

    objective, optimizer = accelerator.prepare(objective, optimizer)
    objective.train()

    def save() -> None:
        tensors = {
            "weights": trained,
            "average": dict(zip(trained, average.shadow_params, strict=True)),
            "optimizer": optimizer_tensors(optimizer.optimizer),
        }
        save_checkpoint(checkpoints, step, tensors, {}, recipe.keep_checkpoints)

    @contextmanager
    def averaged() -> Iterator[None]:
        average.store(trained.values())
        average.copy_to(trained.values())
        objective.eval()
        try:
            with torch.compiler.set_stance("force_eager"):  # samples come in other shapes than batches
                yield
        finally:
            average.restore(trained.values())
            objective.train()

    board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1)
    log = _open_log(output / "metrics.jsonl", step)
    bar = tqdm(total=recipe.steps, initial=step, desc=recipe.stage, unit="step", disable=quiet, mininterval=1.0)
    sums: dict[str, float] = {}
    count = 0
    while step < recipe.steps:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe.optimizer, step, recipe.steps)
        batch = _to_device(stage.batch(step), accelerator.device)
        with _attention(recipe.compute.attention):
            values = objective(batch)
            if not math.isfinite(values["loss"].item()):
                raise ValueError(
                    f"the loss is not finite at step {step}; lower optimizer.learning_rate and run again: the newest "
                    f"checkpoint in {checkpoints} is from before"
                )
            accelerator.backward(values["loss"])
        accelerator.clip_grad_norm_(trained.values(), recipe.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(trained.values())
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        count += 1
        bar.update()
        if step % recipe.log_every == 0 or step == recipe.steps:
            means = {name: total / count for name, total in sums.items()}
            sums, count = {}, 0
            rate = (bar.format_dict["rate"] or 0.0) * recipe.batch_size
            for name, value in means.items():
                board.add_scalar(name, value, step)
            log.write(
                json.dumps({"step": step, "samples": step * recipe.batch_size, "rate": round(rate, 2), **means}) + "\n"
            )
            log.flush()
            bar.set_postfix({"loss": f"{means['loss']:.4f}", "samples/s": f"{rate:.1f}"})
        if step % recipe.save_every == 0 and step < recipe.steps:
            save()
        if step % recipe.sample_every == 0 and step < recipe.steps:
            with averaged():
                stage.sample(output / "samples", step)
    bar.close()
    if not done:
        save()
    with averaged():
        stage.sample(output / "samples", step)
        stage.export(output / "model")
    board.close()
    log.close()


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The learning rate of step 1 … ``steps``.

    A linear warm-up; then constant, or half a cosine down to a hundredth; and, where ``decay_steps`` is set, a straight
    line to nothing at the end. With a constant rate a run can be made longer from any checkpoint before that line.
    """
    rate = settings.learning_rate * min(1.0, step / max(1, settings.warmup_steps))
    if settings.schedule == "cosine":
        progress = max(0, step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
        rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    if settings.decay_steps:
        rate *= min(1.0, (steps - step + 1) / settings.decay_steps)
    return rate


def _attention(backend: str) -> AbstractContextManager[None]:
    return sdpa_kernel(SDPBackend.MATH) if backend == "math" else nullcontext()


def _to_device(batch: Any, device: torch.device) -> Any:
    return type(batch)(**{name: value.to(device) for name, value in vars(batch).items()})


def _open_log(path: Path, step: int) -> TextIO:
    # What a broken run logged after its newest checkpoint is going to be logged again.
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))
    return path.open("a")


def check_folder(recipe: AnyRecipe) -> None:
    """Make sure that the run in the recipe's folder, if there is one, is of the same recipe.

    Raises:
        ValueError: if it is of another; the message names the difference.
    """
    output = recipe.output
    # What may change between two runs of one folder: its length and rhythm, and how the arithmetic is done.
    free = {"output", "steps", "log_every", "sample_every", "save_every", "keep_checkpoints", "compute"}
    free |= {"compile", "sample_steps", "guidance_scale", "weights"}  # of the samples and the export alone
    path = output / "recipe.yaml"
    if path.exists() and list_checkpoints(output / "checkpoints"):
        # Read back through the validation, so that a setting that is new since then has its default.
        before, now = load_recipe(path).model_dump(mode="json"), recipe.model_dump(mode="json")
        for key in sorted((set(before) | set(now)) - free):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{output} holds a run of another recipe: {key} was {before.get(key)} and is now {now.get(key)}; "
                    "choose another output, or delete this one"
                )
