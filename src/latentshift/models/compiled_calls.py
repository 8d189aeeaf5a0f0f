"""Compiled code of a U-Net for the calls that it was made for; all other calls run as they would without it.

A call of another shape would be compiled anew, for as long as the first one took and without a word. So the kinds of
calls that are compiled are made known one by one, in a trial that also compares results; see :class:`CompiledCalls`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._pytree import tree_flatten, tree_map_only

from latentshift.frame_context import frame_context
from latentshift.models.frozen_weights import FrozenWeights

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""The largest ‖compiled - eager‖ / ‖eager‖ of a call that counts as rounding, by dtype."""


@dataclass
class Trial:
    """What calls took while they were tried.

    Attributes:
        compiling: whether calls run compiled too.
        eager: seconds of each call.
        compiled: likewise; the first includes compiling.
        differences: ‖compiled - eager‖ / ‖eager‖ of each call's output.
        kinds: of these calls.
    """

    compiling: bool
    eager: list[float] = field(default_factory=list)
    compiled: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    kinds: set[Hashable] = field(default_factory=set)


class CompiledCalls:
    """What a U-Net runs in place of its forward pass and hooks, in sampling: ``unet._compiled_call_impl``.

    Args:
        unet: that is not compiled.
        freeze: whether its weights are made a part of the code, in the order that is fast there (torch's "freezing",
            on the CPU). Where they have changed since, calls run without the code, with a warning.
        backend: of ``torch.compile``.

    Attributes:
        kinds: of calls that run compiled: shapes, dtypes and devices of tensors, other arguments by their values, the
            frame count and the temporal layers. A call under autograd, inside a chunk of frames, or with other hooks
            of layers or of all modules (which compiled code would leave out in silence) is of another kind.
        freezes: whether weights are a part of the code.
    """

    def __init__(self, unet: nn.Module, *, freeze: bool, backend: str | Callable[..., Any] = "inductor") -> None:
        self.kinds: set[Hashable] = set()
        self._unet = unet
        self.freezes = freeze
        self._frozen: FrozenWeights | None = None
        self._compiled = torch.compile(_own_function(unet), backend=backend, dynamic=False)
        self._trial: Trial | None = None

    @property
    def has_weights_of_unet(self) -> bool:
        """Whether the weights in the code are those of the U-Net; also before there are any, and where none are."""
        return self._frozen is None or self._frozen.are_unchanged()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the U-Net's call."""
        kind = self._kind(args, kwargs)
        if self._trial is not None and kind is not None:
            return self._try(self._trial, kind, args, kwargs)
        if kind is None or kind not in self.kinds:
            return self._unet._call_impl(*args, **kwargs)
        if not self.has_weights_of_unet:
            warnings.warn(
                "weights of the U-Net have changed since accelerate() made them a part of compiled code, so it runs "
                "without that code, and slower: call accelerate() again",
                stacklevel=2,
            )
            return self._unet._call_impl(*args, **kwargs)
        return self._run_compiled(args, kwargs)

    @contextmanager
    def trial(self, *, compiling: bool) -> Iterator[Trial]:
        """Inside, calls are timed; with ``compiling`` they run twice, without and with compiled code."""
        self._trial = trial = Trial(compiling)
        try:
            yield trial
        finally:
            self._trial = None

    def _run_compiled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A timestep that is expanded to all frames has other strides than one for each frame, and other code.
        args, kwargs = tree_map_only(Tensor, Tensor.contiguous, (args, kwargs))
        return self._compiled(*args, **kwargs)

    def _try(self, trial: Trial, kind: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output, seconds = _timed(lambda: self._unet._call_impl(*args, **dict(kwargs)))
        trial.eager.append(seconds)
        trial.kinds.add(kind)
        if trial.compiling:
            if self.freezes and self._frozen is None:
                self._frozen = FrozenWeights(self._unet)
            with _freezing() if self.freezes else nullcontext():
                made, seconds = _timed(lambda: self._run_compiled(args, dict(kwargs)))
            trial.compiled.append(seconds)
            trial.differences.append(_difference(made, output))
        return output

    def _kind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
        """None: never compiled."""
        context = frame_context(self._unet)
        if torch.is_grad_enabled() or (context is not None and context.exchange is not None):
            return None
        leaves, structure = tree_flatten((args, kwargs))
        temporal = None if context is None else (repr(context.installed), context.frames_independent)
        hooks = [
            (*module._forward_hooks, *module._forward_pre_hooks, id(vars(module).get("forward")))
            for module in self._unet.modules()
        ]
        of_all = (*torch_module._global_forward_hooks, *torch_module._global_forward_pre_hooks)
        device = next(leaf.device.type for leaf in leaves if isinstance(leaf, Tensor))
        modes = torch.is_inference_mode_enabled(), torch.is_autocast_enabled(device), torch.get_num_threads()
        return (*map(_leaf_kind, leaves), str(structure), temporal, tuple(hooks), of_all, modes)


def _freezing() -> AbstractContextManager[None]:
    """Inside, what torch traces and compiles takes weights as constants: its tracer does not see ``options``."""
    from torch._inductor import config

    patched: AbstractContextManager[None] = config.patch(freezing=True)
    return patched


_numbers = count()


def _own_function(unet: nn.Module) -> Callable[..., Any]:
    """The U-Net's call as a function with code of its own, by which torch keeps what it has compiled.

    Else code that holds a U-Net's former weights would be found again for its present ones.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return unet._call_impl(*args, **kwargs)

    code = call.__code__.replace(co_name=f"call_{next(_numbers)}")
    return FunctionType(code, call.__globals__, code.co_name, None, call.__closure__)


def _leaf_kind(leaf: Any) -> Hashable:
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.dtype, leaf.device, leaf.is_inference()
    return repr(leaf)


def _timed(call: Any) -> tuple[Any, float]:
    _wait()
    start = time.perf_counter()
    output = call()
    _wait()
    return output, time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _difference(made: Any, expected: Any) -> float:
    """‖made - expected‖ / ‖expected‖ of the U-Net's predictions; infinite if they are not finite."""
    made, expected = (next(iter(tree_flatten(each)[0])).double() for each in (made, expected))
    value = float((made - expected).norm() / expected.norm().clamp(min=1e-30))
    return value if value == value else float("inf")
