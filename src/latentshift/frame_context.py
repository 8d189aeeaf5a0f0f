"""The frame count of a U-Net's call, for layers that look across frames.

Frames fold into the batch of an image U-Net: a batch of B videos with F frames each is an image batch (B·F, C, H, W) in
which the frames of a video lie side by side. F comes with each call, ``unet(sample, timestep, text, num_frames=16)``,
and the layers read it here. It belongs to that call in that thread: calls in other threads, or between a forward pass
and its backward pass, may have another.

Knows no temporal method.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latentshift.imports.renamed import warn_renamed

Exchange = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]
"""Hands what the frames before and after these take from them to those, and returns what these take from them: from
the last frame before and from the first one after, or None where there is none."""


class _ThreadState:
    """The state of one thread."""

    def __init__(self) -> None:
        self.num_frames: int | None = None  # outside a call
        self.frames_independent = False
        self.default_num_frames = 1
        self.default_num_videos = 1
        self.residual: Tensor | None = None
        self.exchange: Exchange | None = None
        self.kept: dict[nn.Module, Any] = {}  # what layers keep from one call to the next


class _PerThread(threading.local):
    # Not a ContextVar: torch.compile (2.13) can't trace one. It can follow an object that a thread-local holds, though
    # not attributes of the thread-local itself.
    def __init__(self) -> None:
        self.state = _ThreadState()


class FrameContext:
    """Shared by all layers of a U-Net that look across frames.

    Attributes:
        installed: name -> settings of what is installed.
    """

    def __init__(self) -> None:
        self.installed: dict[str, Any] = {}
        self._per_thread = _PerThread()

    @property
    def thread(self) -> _ThreadState:
        """This thread's state, for who needs several of its values: each look-up takes as long as a small copy."""
        return self._per_thread.state

    @property
    def num_frames(self) -> int:
        """F of the call that this thread is in.

        Raises:
            RuntimeError: outside a call of the U-Net, where the frame count is unknown.
        """
        num_frames = self.thread.num_frames
        if num_frames is None:
            raise RuntimeError(
                "a layer of this U-Net runs outside a call of the U-Net, so its number of frames is not known; for "
                "activation checkpointing of your own use latentshift.frame_context.checkpoint_with_frames(unet), for "
                "a layer by itself frame_context(unet).with_num_frames(num_frames)"
            )
        return num_frames

    @property
    def frames_independent(self) -> bool:
        """Whether frames are independent in this thread now, as if nothing were installed."""
        return self.thread.frames_independent

    @property
    def apart(self) -> bool:
        """The old name of ``frames_independent``."""
        warn_renamed("FrameContext.apart", "FrameContext.frames_independent")
        return self.frames_independent

    @property
    def residual(self) -> Tensor | None:
        """What a layer keeps for the next one of the same block, in this thread."""
        return self.thread.residual

    @residual.setter
    def residual(self, value: Tensor | None) -> None:
        self.thread.residual = value

    @property
    def exchange(self) -> Exchange | None:
        """How a layer gets at the frames before and after those of this call; None: there are none."""
        return self.thread.exchange

    def state_of_a_part(self, exchange: Exchange) -> _ThreadState:
        """A state for a call with a part of each video's frames, one of several calls that take turns in this thread.

        It has the thread's settings and the call's own frame count; :meth:`switched_to` puts it in place.
        """
        state = _ThreadState()
        state.frames_independent = self.thread.frames_independent
        state.exchange = exchange
        return state

    @contextmanager
    def switched_to(self, state: _ThreadState) -> Iterator[None]:
        """Inside, ``state`` is this thread's."""
        before, self._per_thread.state = self._per_thread.state, state
        try:
            yield
        finally:
            self._per_thread.state = before

    @contextmanager
    def with_num_frames(self, num_frames: int, frames_independent: bool = False) -> Iterator[None]:
        """Inside, layers work in this thread as in a call of the U-Net with ``num_frames``."""
        thread = self.thread
        before = thread.num_frames, thread.frames_independent
        thread.num_frames, thread.frames_independent = num_frames, frames_independent
        try:
            yield
        finally:
            thread.num_frames, thread.frames_independent = before

    def calling(self, num_frames: int, frames_independent: bool = False) -> AbstractContextManager[None]:
        """The old name of ``with_num_frames``."""
        warn_renamed("FrameContext.calling", "FrameContext.with_num_frames")
        return self.with_num_frames(num_frames, frames_independent)

    def __getstate__(self) -> dict[str, Any]:
        return {"installed": self.installed}  # a copy begins outside any call

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.installed = state["installed"]
        self._per_thread = _PerThread()


def frame_context(unet: nn.Module) -> FrameContext | None:
    """The context of this U-Net, or None if no temporal module is installed."""
    return cast("FrameContext | None", getattr(uncompiled(unet), "_frame_context", None))


def register(unet: nn.Module, name: str, settings: Any) -> FrameContext:
    """Note that ``name`` is installed on a U-Net, which takes ``num_frames`` from now on; the context it reads.

    Raises:
        ValueError: if it is installed already.
    """
    module = uncompiled(unet)
    context = frame_context(module)
    if context is None:
        context = FrameContext()
        handles = (
            module.register_forward_pre_hook(_begin_call, with_kwargs=True),
            module.register_forward_hook(_end_call, always_call=True),
        )
        # Plain attributes: nothing that a state dict or a config would hold.
        object.__setattr__(module, "_frame_context", context)
        object.__setattr__(module, "_frame_context_hooks", handles)
    if name in context.installed:
        raise ValueError(f"{name} is installed on this U-Net already; remove it first")
    context.installed[name] = settings
    return context


def unregister(unet: nn.Module, name: str) -> None:
    """Note that ``name`` was taken out; after the last one the U-Net is a stock one again.

    Raises:
        ValueError: if it is not installed.
    """
    module = uncompiled(unet)
    context = frame_context(module)
    if context is None or name not in context.installed:
        raise ValueError(f"{name} is not installed on this U-Net")
    del context.installed[name]
    if not context.installed:
        for handle in cast(Any, module)._frame_context_hooks:
            handle.remove()
        object.__delattr__(module, "_frame_context")
        object.__delattr__(module, "_frame_context_hooks")
        for block in _checkpointed_blocks(module):
            if isinstance(block._gradient_checkpointing_func, _CheckpointWithFrames):
                block._gradient_checkpointing_func = block._gradient_checkpointing_func.checkpoint_fn


@contextmanager
def default_frames(unet: nn.Module, num_frames: int, num_videos: int = 1) -> Iterator[None]:
    """Set the frame count of calls without ``num_frames``, inside the block and in this thread.

    This is what lets code that knows nothing of video, a stock image pipeline say, make one: ask it for
    ``num_images_per_prompt=num_frames``. :func:`latentshift.video` does all that.

    Args:
        unet: with the shift installed.
        num_frames: F ≥ 1.
        num_videos: B ≥ 1 that are made together. A call whose batch is not a multiple of B·F raises a ValueError, for
            guidance and the like only multiply what is made.

    Raises:
        ValueError: if no temporal module is installed, or a count is no whole number of 1 or more.
    """
    context = frame_context(unet)
    if context is None:
        raise ValueError("the temporal shift is not installed on this U-Net")
    check_count(num_frames)
    check_count(num_videos, "num_videos")
    thread = context.thread
    before = thread.default_num_frames, thread.default_num_videos
    thread.default_num_frames, thread.default_num_videos = num_frames, num_videos
    try:
        yield
    finally:
        thread.default_num_frames, thread.default_num_videos = before


@contextmanager
def frames_independent(unet: nn.Module) -> Iterator[None]:
    """Make frames independent inside the block, in this thread (Fig. 7)."""
    context = frame_context(unet)
    if context is None:  # they are independent anyway
        yield
        return
    thread = context.thread
    before, thread.frames_independent = thread.frames_independent, True
    try:
        yield
    finally:
        thread.frames_independent = before


def checkpoint_with_frames(unet: nn.Module, checkpoint_fn: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Activation checkpointing that recomputes a block with the frame count of the call it belongs to.

    ``unet.enable_gradient_checkpointing()`` does so by itself. This is for wrappers that checkpoint blocks themselves,
    e.g. ``checkpoint_wrapper(block, checkpoint_fn=checkpoint_with_frames(unet))`` of torch.distributed.

    Args:
        unet: whose blocks are checkpointed, with the shift installed.
        checkpoint_fn: ``f(block, *args, **kwargs)``; None: torch's, which is not reentrant.

    Raises:
        ValueError: if no temporal module is installed.
    """
    context = frame_context(unet)
    if context is None:
        raise ValueError("the temporal shift is not installed on this U-Net")
    return _CheckpointWithFrames(context, checkpoint_fn or _checkpoint)


def uncompiled(unet: nn.Module) -> nn.Module:
    """The module itself: ``torch.compile`` wraps it, and hands attributes on when they are read and not when set."""
    return cast(nn.Module, getattr(unet, "_orig_mod", unet))


class _CheckpointWithFrames:
    """A checkpoint function whose block runs, now and when it is recomputed, in whatever thread, as in this call."""

    def __init__(self, context: FrameContext, checkpoint_fn: Callable[..., Any]) -> None:
        self.context = context
        self.checkpoint_fn = checkpoint_fn

    def __call__(self, block: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # the count is a constant of the graph
            return self.checkpoint_fn(block, *args, **kwargs)
        context = self.context
        num_frames, frames_independent = context.num_frames, context.frames_independent

        def run(*args: Any, **kwargs: Any) -> Any:
            with context.with_num_frames(num_frames, frames_independent):
                return block(*args, **kwargs)

        return self.checkpoint_fn(run, *args, **kwargs)


def _checkpoint(block: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return checkpoint(block, *args, use_reentrant=False, **kwargs)


def _checkpointed_blocks(unet: nn.Module) -> Iterator[Any]:
    """Modules that call diffusers' checkpoint function on their blocks."""
    return (module for module in unet.modules() if module.__dict__.get("gradient_checkpointing"))


def _begin_call(
    unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    context = cast(FrameContext, frame_context(unet))
    num_frames = kwargs.pop("num_frames", None)
    if num_frames is not None:
        check_count(num_frames)
    thread = context.thread
    if num_frames is None:
        sample = args[0] if args else kwargs["sample"]
        _check_batch(sample.shape[0], thread.default_num_frames, thread.default_num_videos)
    thread.num_frames = thread.default_num_frames if num_frames is None else num_frames
    if not torch.compiler.is_compiling() and torch.is_grad_enabled():
        # Here and not in `register`, for checkpointing may be switched on at any time.
        for block in _checkpointed_blocks(unet):
            if not isinstance(block._gradient_checkpointing_func, _CheckpointWithFrames):
                block._gradient_checkpointing_func = _CheckpointWithFrames(context, block._gradient_checkpointing_func)
    return args, kwargs


def check_count(count: Any, name: str = "num_frames") -> None:
    """Raise a ValueError unless a number of frames, or of what ``name`` says, is a whole number of 1 or more."""
    if isinstance(count, torch.SymInt):  # of a graph that is being exported, which takes any number
        return
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, not {count!r}")


def _check_batch(batch: int, num_frames: int, num_videos: int) -> None:
    if batch % (num_frames * num_videos) != 0:
        made = f"{num_videos} videos of {num_frames} frames are" if num_videos > 1 else f"a video of {num_frames} is"
        raise ValueError(
            f"the U-Net was called with a batch of {batch} frames while {made} made: the batch must hold all frames of "
            "all videos, once or several times"
        )


def _end_call(unet: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    cast(FrameContext, frame_context(unet)).thread.num_frames = None
