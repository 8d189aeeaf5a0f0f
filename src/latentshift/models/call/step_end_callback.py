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
    _scheduler: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_unet", uncompiled(self.pipe.unet))
        object.__setattr__(self, "_scheduler", self.pipe.scheduler)
        if isinstance(self.callback, (PipelineCallback, MultiPipelineCallbacks)):
            object.__setattr__(self, "wanted", self.callback.tensor_inputs)
        if unknown := sorted(set(self.wanted) - set(self.available)):
            raise ValueError(f"a callback can have the tensors {', '.join(self.available)}, not {', '.join(unknown)}")

    def __call__(self, step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        """The latents to go on with.

        Raises:
            ValueError: if the callback returns anything but latents of their shape, or has changed what this call does
                not look at any more: its U-Net, scheduler or guidance scale.
        """
        if self.callback is None:
            return latents
        replaced = read_replaced(self.callback(self.pipe, step, timestep, dict.fromkeys(self.wanted, latents)))
        check_unet_kept(self.pipe, self._unet)
        if self.pipe.scheduler is not self._scheduler:
            raise ValueError("a callback has replaced pipe.scheduler: a call keeps the one that it began with")
        if vars(self.pipe).pop("_guidance_scale", None) is not None:
            raise ValueError(
                "a callback has set pipe._guidance_scale, which this pipeline does not look at: give guidance_interval"
            )
        drop_projected_text()  # a callback may have changed weights
        if unknown := sorted(set(replaced) - set(self.available)):
            raise ValueError(f"a callback can replace {', '.join(self.available)}, not {', '.join(unknown)}")
        changed = replaced.get("latents", latents)
        if not isinstance(changed, Tensor) or changed.shape != latents.shape:
            shape = tuple(changed.shape) if isinstance(changed, Tensor) else f"a {type(changed).__name__}"
            raise ValueError(f"a callback must return latents of the shape {tuple(latents.shape)}, not {shape}")
        return changed


def read_replaced(returned: Any) -> Mapping[str, Any]:
    """What a callback returned: tensors by name, or None for none.

    Raises:
        ValueError: for anything else.
    """
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise ValueError(
            f"a callback must return a dict of tensors by name, as {{'latents': …}}, not a {type(returned).__name__}"
        )
    return returned


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
