"""Peak memory and operations of a training step, measured on fake tensors: nothing is calculated or allocated.

Knows nothing of recipes. All sizes are in bytes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils.flop_counter import flop_registry

from latentshift.memory.fake_tensors import TorchDispatchMode


@dataclass(frozen=True)
class StepTrace:
    """Memory of a forward and backward pass at its peak.

    Attributes:
        gradients: of the trained weights, as far as they exist at the peak.
        activations: everything else that the step allocates: what the backward pass needs, copies in lower precision.
        flops: floating-point operations of both passes, of matrix products and convolutions.
    """

    gradients: int
    activations: int
    flops: int


def trace_step(
    loss: Callable[[], Tensor],
    trained: Sequence[nn.Parameter],
    autocast: Callable[[], AbstractContextManager[Any]],
    *,
    gathered: bool,
) -> StepTrace:
    """Trace one step; to be called under :func:`latentshift.memory.fake_tensors.fake_tensors`.

    Args:
        loss: the forward pass.
        trained: weights that get gradients.
        autocast: entered around each forward pass.
        gathered: whether gradients of an earlier micro-batch exist already and are added to.
    """
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter) if gathered else None
    gathered_gradients = _num_bytes(parameter.grad for parameter in trained if parameter.grad is not None)
    live = _LiveMemory()
    with live:
        with autocast():
            value = loss()
        with _tracking_gradients(live, trained):
            value.backward()
    for parameter in trained:
        parameter.grad = None
    return StepTrace(
        gradients=gathered_gradients + live.gradients_at_peak,
        activations=live.peak - live.gradients_at_peak,
        flops=live.flops,
    )


def peak_memory(call: Callable[[], Any], device: str | None = None) -> int:
    """Peak allocation of a call; to be called under fake tensors.

    Args:
        call: whose memory is counted.
        device: type of the device whose memory alone is counted; None: of all.
    """
    live = _LiveMemory(device)
    with live:
        call()
    return live.peak


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *others: Any, **options: Any) -> int:
    """The scores and their product with the values."""
    return int(2 * query.numel() * key.shape[-2] + 2 * query.shape[:-1].numel() * value.shape[-2:].numel())


def _attention_backward_flops(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *others: Any, **_: Any
) -> int:
    """Two products for each of the forward pass, as for every other product."""
    return 2 * _attention_flops(query, key, value)


# Torch's own formulas have CUDA's fused attention only.
_FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


class _LiveMemory(TorchDispatchMode):
    """Counts operations, and the bytes of every storage that one allocates, from then until the storage is freed.

    Torch keeps one Python object per storage for as long as the storage lives, which a weak reference can follow.

    Args:
        device: as for :func:`peak_memory`.
    """

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        self._device = device
        self.live = self.peak = self.flops = 0
        self.live_gradients = self.gradients_at_peak = 0
        self._sizes: weakref.WeakKeyDictionary[UntypedStorage, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs)):  # what existed before does not count
            self._sizes.setdefault(tensor.untyped_storage(), 0)
        result = function(*args, **(kwargs or {}))
        if (formula := _FLOPS.get(function.overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        for tensor in _tensors(result):
            if self._device in (None, tensor.device.type):
                self._track(tensor.untyped_storage())
        return result

    def mark_gradient(self, gradient: Tensor) -> None:
        """Count a tensor that is tracked already as a weight's gradient from now on."""
        self.live_gradients += self._sizes.get(gradient.untyped_storage(), 0)

    def _track(self, storage: UntypedStorage) -> None:
        if storage in self._sizes:
            return
        size = self._sizes[storage] = storage.nbytes()
        self.live += size
        weakref.finalize(storage, self._free, size)
        if self.live > self.peak:
            self.peak, self.gradients_at_peak = self.live, self.live_gradients

    def _free(self, size: int) -> None:
        self.live -= size


@contextmanager
def _tracking_gradients(live: _LiveMemory, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    def mark(parameter: Tensor) -> None:
        if parameter.grad is not None:
            live.mark_gradient(parameter.grad)

    handles = [parameter.register_post_accumulate_grad_hook(mark) for parameter in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in an operation's arguments or results, which are nested in tuples, lists and dicts."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(each.untyped_storage().nbytes() for each in tensors)
