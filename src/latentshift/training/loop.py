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
from typing import Any, Protocol, TextIO

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from latentshift.training.checkpoint import (
    Checkpoint,
    checkpoint_step,
    drop_checkpoints,
    list_checkpoints,
    load_newest_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from latentshift.training.recipe import AnyRecipe, OptimizerSettings, dump_recipe, load_recipe
from latentshift.whole import check_place, whole, write_whole

_MOST_WITHOUT_GRADIENT = 0.1  # share of the weights; a text encoder may hold a head that nothing uses


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

    The run's folder has been through :func:`check_folder`.

    Raises:
        ValueError: if a checkpoint is damaged or of another base, or the loss is not finite.
    """
    output, compute = recipe.output, recipe.compute
    checkpoints = output / "checkpoints"
    memory_format = torch.channels_last if compute.channels_last else torch.contiguous_format
    stage.objective.to(accelerator.device, memory_format=memory_format)  # type: ignore[call-overload]
    learner = _Learner(stage.objective, recipe, accelerator)
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
        _Journal(recipe, step, quiet=quiet) as journal,
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


class _Learner:
    """What changes from step to step: the weights that are trained, their optimizer, their average."""

    def __init__(self, objective: nn.Module, recipe: AnyRecipe, accelerator: Accelerator) -> None:
        self.trained = {name: value for name, value in objective.named_parameters() if value.requires_grad}
        settings = recipe.optimizer
        optimizer = torch.optim.AdamW(
            self.trained.values(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.average = EMAModel(
            self.trained.values(), decay=recipe.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True
        )
        self.accelerator = accelerator
        self.max_grad_norm = settings.max_grad_norm
        self.checked = False
        self.objective, self.optimizer = accelerator.prepare(objective, optimizer)

    def learn(self, batch: Any, rate: float) -> dict[str, float]:
        """One step at a learning rate; what the objective said. A loss that is not finite changes nothing."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        values = self.objective(batch)
        said = {name: float(value.detach()) for name, value in values.items()}
        if math.isfinite(said["loss"]):
            self.accelerator.backward(values["loss"])
            if not self.checked:
                self._check_gradients()
                self.checked = True
            self.accelerator.clip_grad_norm_(self.trained.values(), self.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.average.step(self.trained.values())
        return said

    def _check_gradients(self) -> None:
        # A compiler's fault has cut a network in two before, in silence (docs/log.md, 2026-11-21).
        cut_off = [name for name, value in self.trained.items() if value.grad is None or not value.grad.any()]
        if len(cut_off) > _MOST_WITHOUT_GRADIENT * len(self.trained):
            raise RuntimeError(
                f"no gradient reaches {len(cut_off)} of {len(self.trained)} weights ({cut_off[0]}, …): they would not "
                "be trained; try compile=false"
            )

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All of it, for a checkpoint."""
        return {
            "weights": self.trained,
            "average": dict(zip(self.trained, self.average.shadow_params, strict=True)),
            "optimizer": optimizer_tensors(self.optimizer.optimizer),
        }

    def values(self) -> dict[str, Any]:
        """What of it is no tensor."""
        scaler = self.accelerator.scaler  # of float16's gradients
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(checkpoint.tensors["weights"][name])
        for shadow, name in zip(self.average.shadow_params, self.trained, strict=True):
            shadow.copy_(checkpoint.tensors["average"][name])
        self.average.optimization_step = checkpoint.step
        load_optimizer_tensors(self.optimizer.optimizer, checkpoint.tensors["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in checkpoint.values:
            self.accelerator.scaler.load_state_dict(checkpoint.values["scaler"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are their average, and the objective is as at inference."""
        self.average.store(self.trained.values())
        self.average.copy_to(self.trained.values())
        self.objective.eval()
        try:
            with torch.compiler.set_stance("force_eager"):  # samples come in other shapes than batches
                yield
        finally:
            self.average.restore(self.trained.values())
            self.objective.train()


class _Journal:
    """What is said of a run while it goes on: progress bar, ``metrics.jsonl``, TensorBoard."""

    def __init__(self, recipe: AnyRecipe, step: int, *, quiet: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.recipe = recipe
        self.board = SummaryWriter(str(recipe.output / "tensorboard"), purge_step=step + 1)
        self.lines = _open_log(recipe.output / "metrics.jsonl", step)
        self.bar = tqdm(
            total=recipe.steps, initial=step, desc=recipe.stage, unit="step", disable=quiet, mininterval=1.0
        )
        self.sums: dict[str, float] = {}
        self.count = 0
        self.seconds = 0.0

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self.board.close()
        self.lines.close()

    def note(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Take in a step's values and time; their means are written every ``log_every`` steps and at the end."""
        recipe = self.recipe
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        self.seconds += seconds
        self.bar.update()
        if step % recipe.log_every and step != recipe.steps:
            return
        means = {name: total / self.count for name, total in self.sums.items()}
        means["samples_per_second"] = round(self.count * recipe.batch_size / self.seconds, 2)
        self.sums, self.count, self.seconds = {}, 0, 0.0
        for name, value in means.items():
            self.board.add_scalar(name, value, step)
        self.lines.write(json.dumps({"step": step, "samples": step * recipe.batch_size, **means}) + "\n")
        self.lines.flush()
        unit = "clips/s" if recipe.stage == "video" else "images/s"
        self.bar.set_postfix({"loss": f"{means['loss']:.4f}", unit: f"{means['samples_per_second']:.1f}"})


@contextmanager
def _reported(output: Path, stage: Stage) -> Iterator[None]:
    """Whatever ends it, what was learned of the data is kept."""
    try:
        yield
    finally:
        _write_report(output, stage)


def _write_report(output: Path, stage: Stage) -> None:
    write_whole(output / "data.json", json.dumps(stage.report(), indent=1, ensure_ascii=False) + "\n")


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


def before_decay(recipe: AnyRecipe) -> int | None:
    """The last step at the full learning rate, from which a run can be made longer; None if it falls all along."""
    return None if recipe.optimizer.schedule == "cosine" else recipe.steps - recipe.optimizer.decay_steps


def _attention(backend: str) -> AbstractContextManager[None]:
    return sdpa_kernel(SDPBackend.MATH) if backend == "math" else nullcontext()


def _to_device(batch: Any, device: torch.device) -> Any:
    moved = {name: None if value is None else value.to(device) for name, value in vars(batch).items()}
    return type(batch)(**moved)


def _open_log(path: Path, step: int) -> TextIO:
    # What a broken run logged after its newest checkpoint is going to be logged again.
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))
    return path.open("a")


def check_folder(recipe: AnyRecipe) -> None:
    """Make sure that the recipe's folder can be written to, and the run in it, if there is one, is of this recipe.

    Raises:
        ValueError: if it is of another; the message names the difference.
        OSError: if it can't be written to.
    """
    output = recipe.output
    check_place(output / "recipe.yaml")
    # What may change between two runs of one folder: its length and rhythm, and how the arithmetic is done.
    free = {"output", "steps", "log_every", "sample_every", "save_every", "keep_checkpoints", "compute", "loading"}
    free |= {
        "compile",
        "sample_steps",
        "sample_prompts",
        "guidance_scale",
        "weights",
        "loading",
    }  # of the samples and the export alone
    path = output / "recipe.yaml"
    if path.exists() and list_checkpoints(output / "checkpoints"):
        # Read back through the validation, so that a setting that is new since then has its default.
        before, now = load_recipe(path).model_dump(mode="json"), recipe.model_dump(mode="json")
        before["optimizer"]["learning_rate"] = now["optimizer"]["learning_rate"]  # a run may be calmed
        for key in sorted((set(before) | set(now)) - free):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{output} holds a run of another recipe: {key} was {before.get(key)} and is now {now.get(key)}; "
                    "choose another output, or delete this one"
                )
        if before["steps"] != now["steps"]:
            newest = checkpoint_step(list_checkpoints(output / "checkpoints")[-1])
            full = before_decay(load_recipe(path))
            if full is None or newest > full:
                raise ValueError(
                    f"the learning rate of {output} was falling already towards its {before['steps']} steps; go on "
                    "with that number" + ("" if full is None else f", or delete its checkpoints after step {full}")
                )
