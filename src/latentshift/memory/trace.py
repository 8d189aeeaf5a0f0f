"""What one step takes, found without taking it: the step is gone through with tensors that are shapes without memory.

Knows nothing of recipes. All sizes are in bytes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def shapes_alone() -> FakeTensorMode:
    """Inside, tensors have shapes, and neither values nor memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)


@dataclass(frozen=True)
class StepTrace:
    """Of a forward and backward pass, at the moment when it holds most.

    Attributes:
        gradients: of the trained weights, those that are there at that moment.
        activations: everything else that is not there before: what the backward pass needs, copies in lower precision.
        flops: floating-point operations of both passes, of products of matrices and convolutions.
    """

    gradients: int
    activations: int
    flops: int


def trace_step(
    loss: Callable[[], Tensor],
    trained: Sequence[nn.Parameter],
    calculating: Callable[[], AbstractContextManager[Any]],
    *,
    gathered: bool,
) -> StepTrace:
    """Go through a step, under :func:`shapes_alone`.

    Args:
        loss: the forward pass.
        trained: weights that get gradients.
        calculating: is entered around each forward pass: autocast.
        gathered: whether gradients of an earlier pass lie there already, to be added to.
    """
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter) if gathered else None
    kept = _size(parameter.grad for parameter in trained if parameter.grad is not None)
    live = _Live()
    with live:
        with calculating():
            value = loss()
        with _noting(live, trained):
            value.backward()
    for parameter in trained:
        parameter.grad = None
    return StepTrace(kept + live.gradients, live.peak - live.gradients, _flops(loss, calculating))


def peak_of(work: Callable[[], Any]) -> int:
    """What a piece of work holds at most, beyond what is there before it; under :func:`shapes_alone`."""
    live = _Live()
    with live:
        work()
    return live.peak


def _flops(loss: Callable[[], Tensor], calculating: Callable[[], AbstractContextManager[Any]]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # it knows the products of attention, and not every fused kernel
        with calculating():
            value = loss()
        value.backward()
    return counter.get_total_flops()


class _Live(TorchDispatchMode):
    """Keeps count of the bytes of all storages that operations make, as long as anything holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.gradients = self._gradients_now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        for each in tree_leaves((arguments, options)):
            if isinstance(each, Tensor):  # what was there before does not count
                self._sizes.setdefault(_storage(each), 0)
        made = function(*arguments, **(options or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                self._note(each)
        return made

    def note_gradient(self, gradient: Tensor) -> None:
        """Tell that this, which is counted already, is a gradient of a weight."""
        self._gradients_now += self._sizes.get(_storage(gradient), 0)

    def _note(self, tensor: Tensor) -> None:
        key, storage = _storage(tensor), tensor.untyped_storage()
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        weakref.finalize(storage, self._drop, key)
        if self.now > self.peak:
            self.peak, self.gradients = self.now, self._gradients_now

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


@contextmanager
def _noting(live: _Live, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    def note(parameter: Tensor) -> None:
        if parameter.grad is not None:
            live.note_gradient(parameter.grad)

    handles = [parameter.register_post_accumulate_grad_hook(note) for parameter in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(each.untyped_storage().nbytes() for each in tensors)
