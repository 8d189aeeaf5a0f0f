"""What changes from step to step: the weights that are trained, their optimizer, their average.

Knows nothing of where batches come from, nor of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from latentshift.training.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors
from latentshift.training.recipe import AnyRecipe

_MOST_WITHOUT_GRADIENT = 0.1  # share of the weights; a text encoder may hold a head that nothing uses


class Learner:
    """The trained weights of an objective, and all that moves them."""

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
