"""``callback_on_step_end`` of a call: what is shown after each step, and what it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor, nn

from latentshift.frame_context import uncompiled
from latentshift.models.conditioning.text_projection import drop_projected_text


@dataclass(frozen=True)
class StepEndCallback:
    """A callback that was checked, of one call.

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
    _unet: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_unet", uncompiled(self.pipe.unet))
        if isinstance(self.callback, (PipelineCallback, MultiPipelineCallbacks)):
            object.__setattr__(self, "wanted", self.callback.tensor_inputs)
        if unknown := sorted(set(self.wanted) - set(self.available)):
            raise ValueError(f"a callback can have the tensors {', '.join(self.available)}, not {', '.join(unknown)}")

    def __call__(self, step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        """The latents to go on with.

        Raises:
            ValueError: if the callback has replaced the U-Net.
        """
        if self.callback is None:
            return latents
        replaced = self.callback(self.pipe, step, timestep, dict.fromkeys(self.wanted, latents)) or {}
        check_unet_kept(self.pipe, self._unet)
        drop_projected_text()  # a callback may have changed weights
        return replaced.get("latents", latents)


def check_unet_kept(pipe: Any, unet: nn.Module) -> None:
    """Refuse what a callback did to a pipeline if a call can't go on with it.

    Args:
        pipe: that is called.
        unet: that the call began with, as :func:`latentshift.frame_context.uncompiled` gives it.

    Raises:
        ValueError: if the pipeline has another one now.
    """
    if uncompiled(pipe.unet) is not unet:
        raise ValueError(
            "a callback has replaced pipe.unet, and a call makes its videos with the U-Net that it began with: change "
            "that one's weights or adapters, or make the other steps in a call of their own, from these latents"
        )
