"""An image pipeline's call whose frames share noise (:mod:`latentshift.diffusion.shared_noise`).

The pipeline's latents are the frames' own, x = L u, all the time: what looks at them (U-Net, ControlNet, autoencoder,
masks, callbacks) needs no change. Two things differ from a call with independent noise. The noise that the pipeline
draws is mixed, L η, whether it is the start, is added to a picture's latents, or is what inpainting puts back around
its mask. And the scheduler steps from L⁻¹ x with the prediction L⁻¹ ε (or velocity, or clean latents), and its result
is mixed again, so that what it draws is independent noise to it, as in :func:`latentshift.diffusion.sampling.sample`.

Legend of shapes: B videos, F frames, C channels, h × w latent pixels.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.shared_noise import mix_noise, unmix_noise
from latentshift.image_pipelines.stock import is_modular

_DRAW = "randn_tensor"  # by which every pipeline of diffusers draws the noise of its latents, a name in its module


@contextmanager
def frames_share_noise(
    pipe: Any, options: Mapping[str, Any], num_frames: int, noise_share: float
) -> Iterator[dict[str, Any]]:
    """Inside, one call of the pipeline makes videos whose frames share noise.

    Args:
        pipe: the image pipeline.
        options: of its call. ``latents`` are independent noise, (B·F, C, h, w).
        num_frames: F.
        noise_share: a ≥ 0; with 0, or one frame, nothing is changed.

    Yields:
        The arguments to call it with.

    Raises:
        ValueError: from the first step, if the pipeline has drawn no noise where its class of diffusers does.
    """
    if noise_share == 0 or num_frames == 1:
        yield dict(options)
        return
    latents = _Latents(num_frames, noise_share)
    options = dict(options)
    if options.get("latents") is not None:
        options["latents"] = latents.mixed(options["latents"])
    # What a pipeline goes on with from another's noise levels has noise already
    has_noise = options.get("latents") is not None or options.get("denoising_start") is not None
    kind, scheduler = type(pipe).__name__, pipe.scheduler
    step = scheduler.step
    signature = inspect.signature(step)

    @wraps(step)  # whose signature pipelines read
    def on_independent_noise(*args: Any, **kwargs: Any) -> Any:
        _mixing.latents = None  # all noise of a pipeline is drawn before its first step; callbacks may draw others
        if not (has_noise or latents.drawn):
            raise ValueError(f"the noise of {kind}, which frames are to share, was drawn in a way that is not known")
        bound = signature.bind(*args, **kwargs)
        bound.arguments["sample"] = latents.unmixed(bound.arguments["sample"])
        bound.arguments["model_output"] = latents.unmixed(bound.arguments["model_output"])
        return latents.mixed_output(step(*bound.args, **bound.kwargs))

    _learn_to_mix(pipe)
    own_step = vars(scheduler).get("step")
    outer, _mixing.latents = getattr(_mixing, "latents", None), latents
    scheduler.step = on_independent_noise
    try:
        yield options
    finally:
        _mixing.latents = outer
        if own_step is None:
            del scheduler.step
        else:
            scheduler.step = own_step


class _Latents:
    """L and its inverse, of frames that are folded into the batch.

    What was mixed last is kept with what it was made of, so that a scheduler goes on with the very bits of its last
    step unless the pipeline or a callback has changed the latents.
    """

    def __init__(self, num_frames: int, noise_share: float) -> None:
        self._num_frames = num_frames
        self._noise_share = noise_share
        self._last: tuple[Tensor, Tensor] | None = None
        self.drawn = False

    def mixed(self, independent: Tensor) -> Tensor:
        shared = mix_noise(self._videos(independent), self._noise_share).flatten(0, 1)
        self._last = shared.clone(), independent.clone()  # others may write into what they are given
        return shared

    def unmixed(self, shared: Tensor) -> Tensor:
        if self._last is not None and torch.equal(shared, self._last[0].to(shared)):
            return self._last[1].to(shared)
        return unmix_noise(self._videos(shared), self._noise_share).flatten(0, 1)

    def mixed_output(self, output: Any) -> Any:
        """A scheduler's, of which all tensors are latents; the first is where it goes on from."""
        if isinstance(output, tuple):
            # The first last, for it is what is kept
            return tuple(reversed([self._mixed_if_tensor(each) for each in reversed(output)]))
        mixed = {name: self._mixed_if_tensor(value) for name, value in reversed(list(output.items()))}
        return type(output)(**mixed)

    def _mixed_if_tensor(self, value: Any) -> Any:
        return self.mixed(value) if isinstance(value, Tensor) else value

    def _videos(self, frames: Tensor) -> Tensor:
        if len(frames) % self._num_frames:
            raise ValueError(
                f"noise for {len(frames)} frames was drawn, which is no whole number of videos of {self._num_frames}"
            )
        return frames.unflatten(0, (-1, self._num_frames))


_mixing = threading.local()  # .latents: of the call that this thread is in, until its first step
_lock = threading.Lock()


def _learn_to_mix(pipe: Any) -> None:
    """Wrap ``randn_tensor`` in the modules of the pipeline's classes, for good: without a call it does as before."""
    with _lock:
        for module in _modules(pipe):
            draw = getattr(module, _DRAW, None)
            if draw is not None and not hasattr(draw, "_mixes"):
                setattr(module, _DRAW, _mixing_draw(draw))


def _modules(pipe: Any) -> Iterator[ModuleType]:
    """Those of the pipeline's classes, and of the blocks of a modular one."""
    holders = [pipe, pipe.blocks] if is_modular(pipe) else [pipe]
    while holders:
        holder = holders.pop()
        holders += getattr(holder, "sub_blocks", {}).values()
        yield from (sys.modules[base.__module__] for base in type(holder).__mro__ if base.__module__ in sys.modules)


def _mixing_draw(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(draw)
    def mixing(*args: Any, **kwargs: Any) -> Tensor:
        noise = draw(*args, **kwargs)
        latents: _Latents | None = getattr(_mixing, "latents", None)
        if latents is None:
            return noise
        latents.drawn = True
        return latents.mixed(noise)

    mixing._mixes = True  # type: ignore[attr-defined]
    return mixing
