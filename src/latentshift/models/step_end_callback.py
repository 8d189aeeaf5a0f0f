"""``callback_on_step_end`` of a call: what is shown after each step, and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from latentshift.models.conditioning.text_projection import drop_projected_text


@dataclass(frozen=True)
class StepEndCallback:
    """A callback that was checked.

    Args:
        pipe: that it is called with.
        callback: ``f(pipe, step, timestep, tensors)``, or one of diffusers' callbacks, which say themselves what they
            want; None: nothing is called.
        wanted: names of the tensors for it.
        available: names of those that there are.

    Raises:
        ValueError: if it wants a tensor that there is not.
    """

    pipe: Any
    callback: Callable[[Any, int, Any, dict[str, Tensor]], Mapping[str, Tensor] | None] | None
    wanted: Sequence[str]
    available: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.callback, (PipelineCallback, MultiPipelineCallbacks)):
            object.__setattr__(self, "wanted", self.callback.tensor_inputs)
        if unknown := sorted(set(self.wanted) - set(self.available)):
            raise ValueError(f"a callback can have the tensors {', '.join(self.available)}, not {', '.join(unknown)}")

    def __call__(self, step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        """The latents to go on with."""
        if self.callback is None:
            return latents
        replaced = self.callback(self.pipe, step, timestep, dict.fromkeys(self.wanted, latents)) or {}
        drop_projected_text()  # a callback may have changed weights
        return replaced.get("latents", latents)
