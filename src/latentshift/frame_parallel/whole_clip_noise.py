"""A scheduler that works on some frames of a clip, with the noise that it would draw for all of them.

Legend of shapes: B videos, F frames, C channels, h × w.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from latentshift.diffusion.shared_noise import mix_noise


class WholeClipNoise:
    """A scheduler whose ``step`` is called with (B, f, C, h, w) of a clip with more frames.

    What it draws from the generators is drawn for all F frames, mixed as they share noise, and cut to its own: so
    each frame's latents are the same however the frames are split.

    Args:
        scheduler: a diffusers scheduler.
        frames: its own, of F.
        num_frames: F.
        noise_share: a ≥ 0.
    """

    def __init__(self, scheduler: Any, frames: slice, num_frames: int, noise_share: float) -> None:
        self._scheduler = scheduler
        self._drawing = _DrawsWholeClips(frames, num_frames, noise_share)
        self.step = self._wrapped(scheduler.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def _wrapped(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)  # whose signature is read
        def with_whole_noise(*args: Any, **kwargs: Any) -> Any:
            with self._drawing:
                return step(*args, **kwargs)

        return with_whole_noise


class _DrawsWholeClips(TorchFunctionMode):
    """``torch.randn`` of (B, f, …), which is how diffusers' schedulers draw noise, as a part of (B, F, …)."""

    def __init__(self, frames: slice, num_frames: int, noise_share: float) -> None:
        super().__init__()
        self._frames = frames
        self._num_frames = num_frames
        self._noise_share = noise_share

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.randn:
            return func(*args, **(kwargs or {}))
        (videos, frames, *rest), *others = args
        assert frames == self._frames.stop - self._frames.start, "not noise for these frames"
        whole = func((videos, self._num_frames, *rest), *others, **(kwargs or {}))
        return mix_noise(whole, self._noise_share)[:, self._frames]
