"""What changes from step to step: the weights that are trained, their optimizer, their average.

Knows nothing of where batches come from, nor of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from latentshift.training.checkpoint import Checkpoint
from latentshift.training.moments import load_optimizer_tensors, optimizer_tensors
from latentshift.training.recipe import AnyRecipe, OptimizerSettings
from latentshift.training.sharding import lay_out, sharded, whole_tensor

_CHECKS = 3  # steps of clips; at the first, what is behind weights that begin at zero has no gradient yet
_NEVER = 1e-6  # the probability of a false alarm: single frames reach no weight between frames
_MOST_WITHOUT_GRADIENT = 0.1  # share of the weights; a text encoder may hold a head that nothing uses


@dataclass(frozen=True)
class Learned:
    """What a step came to.

    Attributes:
        values: what the objective said, means over the whole batch, and ``gradient_norm`` before it was clipped.
        dropped: whether the step was left out, because its loss or its gradient is not finite.
    """

    values: dict[str, float]
    dropped: bool


class Learner:
    """The trained weights of an objective, and all that moves them."""

    def __init__(self, objective: nn.Module, recipe: AnyRecipe, accelerator: Accelerator) -> None:
        compute = recipe.compute
        self.plain: nn.Module | None = None
        if compute.parallel == "fsdp" and accelerator.num_processes > 1:
            self.plain, objective = objective, sharded(objective, accelerator.device)
        else:
            memory_format = torch.channels_last if compute.channels_last else torch.contiguous_format
            objective.to(accelerator.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.trained = {name: value for name, value in objective.named_parameters() if value.requires_grad}
        settings = recipe.optimizer
        optimizer = _optimizer(settings, list(self.trained.values()))
        self.average = EMAModel(
            self.trained.values(),
            decay=recipe.ema_decay,
            use_ema_warmup=recipe.ema_warmup,
            inv_gamma=1.0,
            power=0.75,
            foreach=self.plain is None,
        )
        self.average_device = torch.device("cpu") if compute.ema_device == "cpu" else accelerator.device
        self.average.to(self.average_device)
        self.accelerator = accelerator
        self.max_grad_norm = math.inf if settings.max_grad_norm is None else settings.max_grad_norm
        images = getattr(recipe, "image_share", 0.0)
        self.checks_left = _CHECKS + (math.ceil(math.log(_NEVER, images)) if images else 0)
        self.cut_off = set(self.trained)  # what no gradient has reached so far
        self.dropped = 0
        self.dropped_in_a_row = 0
        self.optimizer = accelerator.prepare(optimizer)
        self.objective = objective if self.plain is not None else accelerator.prepare(objective)

    def learn(self, batches: Sequence[Any], rate: float, goes_on: Callable[[], bool] = lambda: True) -> Learned | None:
        """One step at a learning rate, on batches that are gone through one after the other.

        A step whose loss or gradient is not finite reaches neither the weights nor their average.

        Args:
            batches: of equal size; their gradients are averaged, and those of the other processes with them.
            rate: the learning rate.
            goes_on: asked before each batch but the first; where it says no, nothing has changed and None is returned.
        """
        accelerator = self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        said: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, 1):
            if number > 1 and not goes_on():
                self.optimizer.zero_grad(set_to_none=True)
                return None
            last = number == len(batches)
            with nullcontext() if last else accelerator.no_sync(self.objective):
                with nullcontext() if self.plain is None else accelerator.autocast():  # what is prepared does it itself
                    values = self.objective(batch)
                accelerator.backward(values["loss"] / len(batches))
            for name, value in values.items():
                said[name] = said.get(name, 0.0) + value.detach().float() / len(batches)
        if accelerator.num_processes > 1:
            said = accelerator.reduce(said, "mean")
        norm = accelerator.clip_grad_norm_(self.trained.values(), self.max_grad_norm)
        learned = {name: float(value) for name, value in said.items()} | {"gradient_norm": float(whole_tensor(norm))}
        finite = math.isfinite(learned["loss"]) and math.isfinite(learned["gradient_norm"])
        if finite and self.checks_left and self.cut_off:
            self._check_gradients()
        if not finite:
            self.optimizer.zero_grad(set_to_none=True)  # a loss may be the one that is not
        if finite or accelerator.scaler is not None:  # a scaler learns from the step, having looked at its gradients
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.dropped += not finite
        self.dropped_in_a_row = 0 if finite else self.dropped_in_a_row + 1
        if finite:
            self._average()
        return Learned(learned, dropped=not finite)

    def _average(self) -> None:
        parameters = list(self.trained.values())
        if self.average_device != self.accelerator.device:
            parameters = [nn.Parameter(value.detach().to(self.average_device)) for value in parameters]
        self.average.step(parameters)

    def _check_gradients(self) -> None:
        # A compiler's fault has cut a network in two before, in silence (docs/log.md, 2026-11-21).
        gradients = {name: value.grad for name, value in self.trained.items() if value.grad is not None}
        self.cut_off -= {name for name, gradient in gradients.items() if whole_tensor(gradient).any()}
        self.checks_left -= 1
        if not self.checks_left and len(self.cut_off) > _MOST_WITHOUT_GRADIENT * len(self.trained):
            first = next(name for name in self.trained if name in self.cut_off)
            raise RuntimeError(
                f"no gradient reaches {len(self.cut_off)} of {len(self.trained)} weights ({first}, …): they would not "
                "be trained; try compile=false"
            )

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All of it, for a checkpoint; every process is to ask, and of weights in shares the main one alone is told."""
        groups = {
            "weights": dict(self.trained),
            "average": dict(zip(self.trained, self.average.shadow_params, strict=True)),
            "optimizer": optimizer_tensors(self.optimizer.optimizer),
        }
        if self.plain is None:
            return groups
        told: dict[str, dict[str, Tensor]] = {name: {} for name in groups}
        for group, tensors in groups.items():
            for name, value in tensors.items():
                whole = whole_tensor(value.detach())
                if self.accelerator.is_main_process:  # the others let go of it at once
                    told[group][name] = whole.cpu()
        return told

    def values(self) -> dict[str, Any]:
        """What of it is no tensor."""
        values: dict[str, Any] = {
            "average_steps": self.average.optimization_step,
            "dropped": self.dropped,
            "dropped_in_a_row": self.dropped_in_a_row,
        }
        scaler = self.accelerator.scaler  # of float16's gradients
        return values if scaler is None else {**values, "scaler": scaler.state_dict()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(lay_out(checkpoint.tensors["weights"][name], parameter))
            for shadow, name in zip(self.average.shadow_params, self.trained, strict=True):
                shadow.copy_(lay_out(checkpoint.tensors["average"][name], shadow))
        values = checkpoint.values
        self.average.optimization_step = values["average_steps"]
        self.dropped, self.dropped_in_a_row = values["dropped"], values["dropped_in_a_row"]
        load_optimizer_tensors(self.optimizer.optimizer, checkpoint.tensors["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in values:
            self.accelerator.scaler.load_state_dict(values["scaler"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are their average, and the objective is as at inference.

        To be entered by every process. Where weights lie in shares, the objective that the learner was made with, whole
        and on the device, has the average's, in the main process alone.
        """
        if self.plain is not None:
            with self._gathered(self.plain):
                yield
            return
        self.average.store(self.trained.values())
        self.average.copy_to(self.trained.values())
        self.objective.eval()
        try:
            with torch.compiler.set_stance("force_eager"):  # samples come in other shapes than batches
                yield
        finally:
            self.average.restore(self.trained.values())
            self.objective.train()

    @contextmanager
    def _gathered(self, plain: nn.Module) -> Iterator[None]:
        own = dict(plain.named_parameters())
        for name, shadow in zip(self.trained, self.average.shadow_params, strict=True):
            value = whole_tensor(shadow)
            if self.accelerator.is_main_process:
                own[name].data.copy_(value)
        if self.accelerator.is_main_process:
            plain.to(self.accelerator.device)
        plain.eval()
        try:
            yield
        finally:
            plain.to("cpu").train()


def _optimizer(settings: OptimizerSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": settings.betas}
    options["weight_decay"] = settings.weight_decay
    if settings.kind == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **options)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, **options)
