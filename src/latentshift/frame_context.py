"""The clip at hand: what the layers that look across frames have to be told of a U-Net's batch.

Frames fold into the batch of an image U-Net: a batch of B videos with F frames each is an image batch (B·F, C, H, W) in
which the frames of a video lie side by side. Whatever lets frames meet is installed on a U-Net under a name of its own
and reads F here; it comes with each call, ``unet(sample, timestep, text, num_frames=16)``.

Knows nothing of how frames meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn


class FrameContext:
    """What all layers of one U-Net that look across frames share.

    The count stays after the call, so that activation checkpointing recomputes with it. So under checkpointing a call
    with another count must not come between a forward pass and its backward pass.

    Attributes:
        num_frames: F of the call at hand.
        default_num_frames: F of calls that do not say.
        apart: whether frames are kept apart: as if nothing were installed.
        installed: name -> settings of what is.
    """

    def __init__(self) -> None:
        self.num_frames = 1
        self.default_num_frames = 1
        self.apart = False
        self.installed: dict[str, Any] = {}


def frame_context(unet: nn.Module) -> FrameContext | None:
    """The context of this U-Net, or None where nothing lets its frames meet."""
    return cast("FrameContext | None", getattr(uncompiled(unet), "_frame_context", None))


def register(unet: nn.Module, name: str, settings: Any) -> FrameContext:
    """Note that ``name`` is installed on a U-Net, which takes ``num_frames`` from now on; the context it reads.

    Raises:
        ValueError: if it is installed already.
    """
    module = uncompiled(unet)
    clip = frame_context(module)
    if clip is None:
        clip = FrameContext()
        handle = module.register_forward_pre_hook(_take_num_frames, with_kwargs=True)
        # Plain attributes: nothing that a state dict or a config would hold.
        object.__setattr__(module, "_frame_context", clip)
        object.__setattr__(module, "_frame_context_hook", handle)
    if name in clip.installed:
        raise ValueError(f"{name} is installed on this U-Net already; remove it first")
    clip.installed[name] = settings
    return clip


def unregister(unet: nn.Module, name: str) -> None:
    """Note that ``name`` was taken out; after the last one the U-Net is a stock one again.

    Raises:
        ValueError: if it is not installed.
    """
    module = uncompiled(unet)
    clip = frame_context(module)
    if clip is None or name not in clip.installed:
        raise ValueError(f"{name} is not installed on this U-Net")
    del clip.installed[name]
    if not clip.installed:
        module._frame_context_hook.remove()  # type: ignore[union-attr, operator]
        object.__delattr__(module, "_frame_context")
        object.__delattr__(module, "_frame_context_hook")


@contextmanager
def default_frames(unet: nn.Module, num_frames: int) -> Iterator[None]:
    """Calls inside that give no ``num_frames`` make videos of this many frames.

    This is what lets code that knows nothing of video, a stock image pipeline say, make one: ask it for
    ``num_images_per_prompt=num_frames``.

    Raises:
        ValueError: if nothing is installed that lets frames meet.
    """
    clip = frame_context(unet)
    if clip is None:
        raise ValueError("the temporal shift is not installed on this U-Net")
    before, clip.default_num_frames = clip.default_num_frames, num_frames
    try:
        yield
    finally:
        clip.default_num_frames = before


@contextmanager
def frames_apart(unet: nn.Module) -> Iterator[None]:
    """Inside, frames know nothing of each other: what the weights make of each alone (Sec. 4.4, Fig. 7)."""
    clip = frame_context(unet)
    if clip is None:  # they are apart anyway
        yield
        return
    before, clip.apart = clip.apart, True
    try:
        yield
    finally:
        clip.apart = before


def uncompiled(unet: nn.Module) -> nn.Module:
    """The module itself: ``torch.compile`` wraps it, and hands attributes on when they are read and not when set."""
    return cast(nn.Module, getattr(unet, "_orig_mod", unet))


def _take_num_frames(
    unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    clip = cast(FrameContext, frame_context(unet))
    num_frames = kwargs.pop("num_frames", None)
    clip.num_frames = clip.default_num_frames if num_frames is None else num_frames
    return args, kwargs
