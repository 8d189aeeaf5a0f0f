"""The temporal shift in memory: in place, where nobody else reads a tensor, and as a function with its gradient.

Knows no layer and no call. Legend of shapes: B videos, F frames, C channels, H × W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from latentshift.settings import Padding, ShiftConfig


@dataclass(frozen=True)
class ShiftLayout:
    """What a shift with some settings does to tensors of some width.

    Attributes:
        sizes: channels that come from one neighbour, from the frame itself, and from the other neighbour.
        past: which of these parts, 0 or 2, comes from the previous frame.
        padding: what stands beyond the ends.
    """

    sizes: tuple[int, int, int]
    past: int
    padding: Padding

    @staticmethod
    def of(channels: int, config: ShiftConfig) -> ShiftLayout:
        """The layout for C channels."""
        share = channels // config.fold
        other = 0 if config.direction == "past_only" else share
        past = 2 if config.direction == "first_from_future" else 0
        return ShiftLayout((share, channels - share - other, other), past, config.padding)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side in memory."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def shifted_copy(
    x: Tensor, num_frames: int, layout: ShiftLayout, before: Tensor | None = None, after: Tensor | None = None
) -> Tensor:
    """Eq. 3, as :func:`latentshift.shift.temporal_shift`, for arguments that were checked.

    Where a gradient is wanted, ``before`` and ``after`` must be None.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        shifted: Tensor = _Shift.apply(x, num_frames, layout, False)
        return shifted
    return shift_(x.clone(), num_frames, layout, before, after)


def shift_(
    x: Tensor,
    num_frames: int,
    layout: ShiftLayout,
    before: Tensor | None = None,
    after: Tensor | None = None,
    *,
    transposed: bool = False,
) -> Tensor:
    """Eq. 3 in place, without a gradient: what comes from other frames is moved, and the rest is not touched.

    Args:
        x: (B·F, C, H, W), which is overwritten.
        num_frames: F.
        layout: of C channels.
        before: as for :func:`latentshift.shift.temporal_shift`.
        after: likewise.
        transposed: apply the transpose, which is the shift's gradient; ``before`` and ``after`` must be None.

    Returns:
        ``x``.
    """
    # Work in the order of memory. Few operations: in a small model each costs as much as what it moves.
    if is_channels_last(x):
        z, channels = x.permute(0, 2, 3, 1), 4
        before, after = (None if edge is None else edge.permute(0, 2, 3, 1) for edge in (before, after))
    else:
        z, channels = x, 2
    parts = z.view(-1, num_frames, *z.shape[1:]).split(layout.sizes, channels)
    _move(parts[layout.past], 1, layout.padding, before, transposed)
    if layout.sizes[2]:
        _move(parts[2 - layout.past], -1, layout.padding, after, transposed)
    return x


def _move(part: Tensor, offset: int, padding: Padding, edge: Tensor | None, transposed: bool) -> None:
    """Move frames (B, F, …) by one, onwards for 1 and back for -1; ``edge`` is what comes in at the end, (B, …)."""
    if transposed:
        offset = -offset
    moved = torch.constant_pad_nd(part, (0, 0, 0, 0, 0, 0, offset, -offset))  # zeros come in
    if edge is not None or padding != "zeros":
        near, far = (0, -1) if offset > 0 else (-1, 0)  # the ends where a frame comes in, and where one goes out
        if edge is not None:
            moved[:, near].copy_(edge)
        elif padding == "circular":
            moved[:, near].copy_(part[:, far])
        elif transposed:  # the end frame was taken twice
            moved[:, far].add_(part[:, far])
        else:
            moved[:, near].copy_(part[:, near])
    part.copy_(moved)


class _Shift(torch.autograd.Function):
    """Linear: its gradient is its transpose, and that one's is itself. Autograd by parts copies a tensor for each."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, num_frames: int, layout: ShiftLayout, transposed: bool) -> Tensor:
        return shift_(x.clone(), num_frames, layout, transposed=transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.settings = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        num_frames, layout, transposed = ctx.settings
        return _Shift.apply(grad, num_frames, layout, not transposed), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: None) -> Tensor:
        shifted: Tensor = _Shift.apply(tangent, *ctx.settings)
        return shifted


class OverwritableTensor(Tensor):
    """A tensor that nobody else will read, so that SiLU may write its result in its place.

    Any other operation takes it as it is, and the result of each is a plain tensor.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is silu and type(args[0]) is cls:
                return silu(args[0].as_subclass(Tensor), inplace=True)
            return func(*args, **(kwargs or {}))
