"""Skip connections in CPU memory between the way down a U-Net and the way up.

For calls on chunks of frames (:mod:`latentshift.models.frame_chunks`), of which many are under way at a time, each with
the skip connections that it has at its layer. With this the device holds those alone that a layer is just taking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

_CPU = torch.device("cpu")


@contextmanager
def offloaded_skips(unet: nn.Module, store: torch.device = _CPU) -> Iterator[None]:
    """Inside, calls of a stock U-Net in this thread keep their skip connections in ``store``, for the same result.

    What goes and comes is a copy, so no bit changes. From CUDA it goes into pinned memory, in the order of the stream
    that calculates, and nothing waits for it.

    Args:
        unet: a ``UNet2DConditionModel``, which is not compiled; calls get no residuals of a ControlNet.
        store: the CPU; in estimates the device that stands for it.
    """
    module: Any = unet
    # Of this thread and of the greenlets that it starts inside; whether one is in a call of the whole U-Net, for its
    # layers may also be called one by one.
    in_call: ContextVar[bool | None] = ContextVar("in_call", default=None)

    def begin(*_: object) -> None:
        if in_call.get() is not None:
            in_call.set(True)

    def end(*_: object) -> None:
        if in_call.get() is not None:
            in_call.set(False)

    def first_skip(_module: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        return _offload(output, store) if in_call.get() else None

    def take_first(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if not in_call.get():
            return None
        return args, {**kwargs, "hidden_states": _bring_back(kwargs["hidden_states"], kwargs["temb"].device)}

    def leave(_module: nn.Module, _args: object, output: tuple[Tensor, Sequence[Tensor]]) -> Any:
        if not in_call.get():
            return None
        hidden, skips = output
        return hidden, tuple(_offload(skip, store) for skip in skips)

    def take(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if not in_call.get():
            return None
        skips = _Offloaded(kwargs["res_hidden_states_tuple"], kwargs["temb"].device)
        return args, {**kwargs, "res_hidden_states_tuple": skips}

    handles = [
        module.register_forward_pre_hook(begin),
        module.register_forward_hook(end, always_call=True),
        module.conv_in.register_forward_hook(first_skip),
        module.down_blocks[0].register_forward_pre_hook(take_first, with_kwargs=True),
        *(block.register_forward_hook(leave) for block in module.down_blocks),
        *(block.register_forward_pre_hook(take, with_kwargs=True) for block in module.up_blocks),
    ]
    token = in_call.set(False)
    try:
        yield
    finally:
        in_call.reset(token)
        for handle in handles:
            handle.remove()


class _Offloaded(tuple[Tensor, ...]):
    """Skip connections of an up block, which takes the last one and goes on with the others: each comes back then."""

    _device: torch.device

    def __new__(cls, skips: Sequence[Tensor], device: torch.device) -> _Offloaded:
        made = super().__new__(cls, skips)
        made._device = device
        return made

    def __getitem__(self, which: SupportsIndex | slice) -> Any:
        if isinstance(which, slice):
            return _Offloaded(super().__getitem__(which), self._device)
        return _bring_back(super().__getitem__(which), self._device)


def _offload(tensor: Tensor, store: torch.device) -> Tensor:
    pinned = tensor.device.type == "cuda" and store.type == "cpu"
    # Without pinned memory a copy that nothing waits for could be read before it is there.
    return torch.empty_like(tensor, device=store, pin_memory=pinned).copy_(tensor, non_blocking=pinned)


def _bring_back(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=tensor.is_pinned())
