"""The callbacks of an image pipeline's call, watched: what they may not do where a video is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

from latentshift.frame_context import uncompiled
from latentshift.models.call.step_end_callback import check_unet_kept, read_replaced

_STEP_END, _OLD = "callback_on_step_end", "callback"


def with_watched_callbacks(pipe: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, whose callbacks raise a ValueError once they have replaced the U-Net or left out frames.

    The image pipeline would go on with a U-Net that was not told how many frames a video has. A callback may return
    nothing here, where image pipelines need a dict.

    Args:
        pipe: the image pipeline.
        options: arguments of its call.
    """
    unet = uncompiled(pipe.unet)

    def watched(name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(callback, updated=())
        def call(*args: Any, **kwargs: Any) -> Any:
            made = callback(*args, **kwargs)
            check_unet_kept(pipe, unet)
            if name != _STEP_END:
                return made
            replaced = dict(read_replaced(made))
            _check_rows(replaced, len(options["generator"]))
            return replaced

        return call

    found = {name: options[name] for name in (_STEP_END, _OLD) if name in options}
    changed = {name: watched(name, callback) for name, callback in found.items()}
    wanted = getattr(found.get(_STEP_END), "tensor_inputs", None)
    if wanted is not None:  # it is one of diffusers' own, and says so itself
        changed[f"{_STEP_END}_tensor_inputs"] = wanted
    return {**options, **changed}


def _check_rows(replaced: dict[str, Any], num_frames: int) -> None:
    """Refuse what does not have a row for each frame of a call, as with diffusers' callbacks that end guidance."""
    for name, value in replaced.items():
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) % num_frames:
            raise ValueError(
                f"a callback has made {name} of length {len(value)} for {num_frames} frames: keep a row for each frame "
                "and condition; to end guidance after some steps, LatentShiftPipeline has guidance_interval"
            )
