"""What changes from step to step: the trained weights, their optimizer and their moving average.

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

from latentshift.training.checkpoints.checkpoint import Checkpoint
from latentshift.training.distributed import distribute_like, full_tensor, shard_with_fsdp
from latentshift.training.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from latentshift.training.recipes.settings import ComputeSettings, OptimizerSettings

_GRADIENT_CHECKS = 3  # steps of clips; at the first, what is behind weights that begin at zero has no gradient yet
_FALSE_ALARM = 1e-6  # its probability: single frames reach no weight between frames
_MAX_WITHOUT_GRADIENT = 0.1  # share of the weights; a text encoder may hold a head that nothing uses


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step.

    Attributes:
        values: the objective's values, means over the whole batch, and ``gradient_norm`` before clipping.
        dropped: whether the step was dropped, because its loss or its gradient is not finite.
    """

    values: dict[str, float]
    dropped: bool


class TrainState:
    """The trained weights of an objective, their optimizer and their average.

    Args:
        objective: from a batch to a dict of scalars with ``loss``; what requires gradients is trained.
        accelerator: of the run.
        optimizer: its settings.
        compute: of them ``parallel``, ``channels_last`` and ``ema_device``.
        ema_decay: of the average.
        ema_warmup: whether the decay rises as 1 - (1 + step)^-0.75.
        image_share: the share of the steps that learn single frames, at which no gradient reaches temporal layers.
    """

    def __init__(
        self,
        objective: nn.Module,
        accelerator: Accelerator,
        optimizer: OptimizerSettings,
        compute: ComputeSettings,
        *,
        ema_decay: float,
        ema_warmup: bool = True,
        image_share: float = 0.0,
    ) -> None:
        self.unsharded: nn.Module | None = None
        if compute.parallel == "fsdp" and accelerator.num_processes > 1:
            self.unsharded, objective = objective, shard_with_fsdp(objective, accelerator.device)
        else:
            memory_format = torch.channels_last if compute.channels_last else torch.contiguous_format
            objective.to(accelerator.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.trained = {name: value for name, value in objective.named_parameters() if value.requires_grad}
        self.average = EMAModel(
            self.trained.values(),
            decay=ema_decay,
            use_ema_warmup=ema_warmup,
            inv_gamma=1.0,
            power=0.75,
            foreach=self.unsharded is None,
        )
        self.average_device = torch.device("cpu") if compute.ema_device == "cpu" else accelerator.device
        self.average.to(self.average_device)
        self.accelerator = accelerator
        self.max_grad_norm = math.inf if optimizer.max_grad_norm is None else optimizer.max_grad_norm
        for_images = math.ceil(math.log(_FALSE_ALARM, image_share)) if image_share else 0
        self.checks_left = _GRADIENT_CHECKS + for_images
        self.without_gradient = set(self.trained)  # so far
        self.dropped = 0
        self.dropped_in_a_row = 0
        self.optimizer = accelerator.prepare(build_optimizer(optimizer, list(self.trained.values())))
        self.objective = objective if self.unsharded is not None else accelerator.prepare(objective)

    def step(
        self, batches: Sequence[Any], rate: float, should_continue: Callable[[], bool] = lambda: True
    ) -> StepResult | None:
        """One optimizer step. If the loss or the gradient is not finite, neither the weights nor their average change.

        Args:
            batches: micro-batches of equal size; their gradients are averaged, over all processes.
            rate: the learning rate.
            should_continue: called before each micro-batch but the first; if False, nothing changes and None is
                returned.
        """
        accelerator = self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, 1):
            if number > 1 and not should_continue():
                self.optimizer.zero_grad(set_to_none=True)
                return None
            last = number == len(batches)
            with nullcontext() if last else accelerator.no_sync(self.objective):
                with nullcontext() if self.unsharded is None else accelerator.autocast():  # else `prepare` did it
                    losses = self.objective(batch)
                accelerator.backward(losses["loss"] / len(batches))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float() / len(batches)
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums, "mean")
        norm = accelerator.clip_grad_norm_(self.trained.values(), self.max_grad_norm)
        values = {name: float(value) for name, value in sums.items()} | {"gradient_norm": float(full_tensor(norm))}
        finite = math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])
        if finite and self.checks_left and self.without_gradient:
            self._check_gradients()
        if not finite:
            self.optimizer.zero_grad(set_to_none=True)  # a loss may be not finite though its gradient is
        if finite or accelerator.scaler is not None:  # a scaler adapts at each step, and skips what is not finite
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.dropped += not finite
        self.dropped_in_a_row = 0 if finite else self.dropped_in_a_row + 1
        if finite:
            self._update_average()
        return StepResult(values, dropped=not finite)

    def _update_average(self) -> None:
        parameters = list(self.trained.values())
        if self.average_device != self.accelerator.device:
            parameters = [nn.Parameter(value.detach().to(self.average_device)) for value in parameters]
        self.average.step(parameters)

    def _check_gradients(self) -> None:
        # A compiler's fault has cut a network in two before, in silence (docs/log.md, 2026-11-21).
        gradients = {name: value.grad for name, value in self.trained.items() if value.grad is not None}
        self.without_gradient -= {name for name, gradient in gradients.items() if full_tensor(gradient).any()}
        self.checks_left -= 1
        missing = self.without_gradient
        if not self.checks_left and len(missing) > _MAX_WITHOUT_GRADIENT * len(self.trained):
            first = next(name for name in self.trained if name in missing)
            raise ValueError(
                f"no gradient reaches {len(missing)} of {len(self.trained)} weights ({first}, …): they would not "
                "be trained; try compile=false"
            )

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Weights, average and optimizer state, for a checkpoint; to be called by every process.

        Of sharded weights the main process gets the full tensors, and the others none.
        """
        groups = {
            "weights": dict(self.trained),
            "average": dict(zip(self.trained, self.average.shadow_params, strict=True)),
            "optimizer": optimizer_tensors(self.optimizer.optimizer),
        }
        if self.unsharded is None:
            return groups
        gathered: dict[str, dict[str, Tensor]] = {name: {} for name in groups}
        for group, tensors in groups.items():
            for name, value in tensors.items():
                full = full_tensor(value.detach())
                if self.accelerator.is_main_process:  # the others free it at once
                    gathered[group][name] = full.cpu()
        return gathered

    def values(self) -> dict[str, Any]:
        """The state that is no tensor."""
        values: dict[str, Any] = {
            "average_steps": self.average.optimization_step,
            "dropped": self.dropped,
            "dropped_in_a_row": self.dropped_in_a_row,
        }
        scaler = self.accelerator.scaler  # of float16's gradients
        return values if scaler is None else {**values, "scaler": scaler.state_dict()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to the state in a checkpoint."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(distribute_like(checkpoint.tensors["weights"][name], parameter))
            for shadow, name in zip(self.average.shadow_params, self.trained, strict=True):
                shadow.copy_(distribute_like(checkpoint.tensors["average"][name], shadow))
        values = checkpoint.values
        self.average.optimization_step = values["average_steps"]
        self.dropped, self.dropped_in_a_row = values["dropped"], values["dropped_in_a_row"]
        load_optimizer_tensors(self.optimizer.optimizer, checkpoint.tensors["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in values:
            self.accelerator.scaler.load_state_dict(values["scaler"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the weights are their average, and the objective is in eval mode; to be entered by every process.

        Of sharded weights, the objective that was passed to ``__init__`` holds the full average, on the device, in the
        main process alone.
        """
        if self.unsharded is not None:
            with self._gathered(self.unsharded):
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
    def _gathered(self, unsharded: nn.Module) -> Iterator[None]:
        own = dict(unsharded.named_parameters())
        for name, shadow in zip(self.trained, self.average.shadow_params, strict=True):
            value = full_tensor(shadow)
            if self.accelerator.is_main_process:
                own[name].data.copy_(value)
        if self.accelerator.is_main_process:
            unsharded.to(self.accelerator.device)
        unsharded.eval()
        try:
            yield
        finally:
            unsharded.to("cpu").train()
