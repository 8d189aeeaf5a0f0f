"""The temporal shift in memory: in place, where nobody else reads a tensor, and as a function with its gradient.

Knows no layer and no call. Legend of shapes: B videos, F frames, C channels, H × W.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active
from torch.autograd import forward_ad
from torch.nn.functional import silu

from latentshift.settings import Padding, ShiftConfig

SMALL = 2**21
"""Bytes of a tensor below which an operation's own time counts, and memory for another one is not dear."""

_MOST_KEPT = 32

_Ints = tuple[int, ...]


class ShiftLayout(NamedTuple):
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


def is_transformed() -> bool:
    """Whether ``torch.func`` or forward-mode differentiation is at work, to which a tensor is more than its values."""
    return _are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side in memory."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def shifted_copy(
    x: Tensor, num_frames: int, layout: ShiftLayout, before: Tensor | None = None, after: Tensor | None = None
) -> Tensor:
    """Eq. 3, as :func:`latentshift.shift.temporal_shift`, for arguments that were checked.

    Where a gradient is wanted, ``before`` and ``after`` must be None.
    """
    if before is None and after is None:
        return _shifted(x, num_frames, layout, transposed=False)
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
    if before is None and after is None and layout.padding == "zeros":
        passage = kept_passage(x, num_frames, layout, transposed=transposed)
        return move_through(passage or _new_passage(x, num_frames, layout, transposed), x)
    passage = _new_passage(x, num_frames, layout, transposed)
    parts = x.as_strided(passage.size, passage.stride)
    passage.written.copy_(parts)
    _pad(passage.read, parts, layout, before, after, transposed)
    parts.copy_(passage.read)
    return x


class Passage(NamedTuple):
    """How the parts that move go through a buffer that has one more frame at each end of each video.

    One view of it has the parts of a frame side by side, in the other they are two frames apart. Written by the one and
    read by the other, one part goes a frame onwards and the other a frame back. What is read and never written is zero.

    Attributes:
        size: B, F, parts that move (1 or 2), and their channels, H and W, joined where they lie in one row.
        stride: of the parts, in the tensor that is shifted.
        written: a view of the buffer, of this size.
        read: the other one.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    written: Tensor
    read: Tensor


class _Kept(threading.local):
    """The passages that a thread keeps: for a small tensor, to make one takes longer than to go through it."""

    def __init__(self) -> None:
        self.passages: dict[Any, Passage] = {}


_kept = _Kept()


def move_through(passage: Passage, x: Tensor) -> Tensor:
    """Eq. 3 in place of ``x``, with zeros beyond the ends, by a passage that was made for one like it; ``x``."""
    parts = x.as_strided(passage.size, passage.stride)
    passage.written.copy_(parts)
    parts.copy_(passage.read)
    return x


def kept_passage(x: Tensor, num_frames: int, layout: ShiftLayout, *, transposed: bool = False) -> Passage | None:
    """This thread's passage for tensors of such shape, strides and dtype, with zeros beyond the ends.

    None where none is kept: not on a GPU, where calls of one thread may overlap, in several streams; nor for what vmap
    goes over, or of :data:`SMALL` bytes and more.
    """
    plain = x.is_cpu and type(x) is Tensor and torch._C._has_storage(x) and not is_transformed()
    if not plain or x.nbytes >= SMALL:
        return None
    key = x.shape, x.stride(), x.dtype, num_frames, layout, transposed
    passage = _kept.passages.get(key)
    if passage is None:
        if len(_kept.passages) == _MOST_KEPT:
            _kept.passages.clear()
        with torch.inference_mode(False):  # to be written outside such a mode, too
            passage = _kept.passages[key] = _new_passage(x, num_frames, layout, transposed)
    return passage


def _new_passage(x: Tensor, num_frames: int, layout: ShiftLayout, transposed: bool) -> Passage:
    batch, channels, height, width = x.shape
    share, _, other = layout.sizes
    videos, count, pixels = batch // num_frames, 2 if other else 1, height * width
    per_frame, per_channel, *per_pixel = x.stride()
    per_part = share * pixels
    row = count * per_part  # of the buffer: a frame
    per_video = (num_frames + 2) * row
    # In the order of the tensor's memory.
    order = (1, width * share, share) if per_channel < per_pixel[1] else (pixels, width, 1)
    inner, of_tensor, of_buffer = _joined((share, height, width), (per_channel, *per_pixel), order)
    size = (videos, num_frames, count, *inner)
    stride = (num_frames * per_frame, per_frame, (channels - share) * per_channel, *of_tensor)
    buffer = x.new_empty(videos * per_video)
    together = buffer.as_strided(size, (per_video, row, per_part, *of_buffer), row)
    apart = buffer.as_strided(size, (per_video, row, 2 * row + per_part, *of_buffer), 0)
    onwards = _first_goes_on(layout, transposed)
    first, last = (0, num_frames + 1) if onwards else (1, num_frames)
    buffer.as_strided((videos, 2, row), (per_video, (last - first) * row, 1), first * row).zero_()
    return Passage(size, stride, together, apart) if onwards else Passage(size, stride, apart, together)


def _joined(size: _Ints, one: _Ints, other: _Ints) -> tuple[_Ints, _Ints, _Ints]:
    """Sizes and both strides with as few dimensions as both allow: of a view, each takes time to make and to copy."""
    joined = [(size[0], one[0], other[0])]
    for count, inner, other_inner in zip(size[1:], one[1:], other[1:], strict=True):
        before, outer, other_outer = joined[-1]
        if (outer, other_outer) == (count * inner, count * other_inner):
            joined[-1] = before * count, inner, other_inner
        else:
            joined.append((count, inner, other_inner))
    sizes, ones, others = zip(*joined, strict=True)
    return sizes, ones, others


def _first_goes_on(layout: ShiftLayout, transposed: bool) -> bool:
    """Whether the first part goes to later frames, and the other one, if there is one, to earlier ones."""
    return (layout.past == 0) != transposed


def _pad(
    read: Tensor, parts: Tensor, layout: ShiftLayout, before: Tensor | None, after: Tensor | None, transposed: bool
) -> None:
    """Put into ``read``, which is to become ``parts``, what is not zero beyond the ends."""
    for part in range(parts.shape[2]):
        from_past = _first_goes_on(layout, transposed) == (part == 0)
        edge = before if from_past else after
        near, far = (0, -1) if from_past else (-1, 0)  # the ends where a frame comes in, and where one goes out
        if edge is not None:
            place = read[:, near, part]
            place.copy_(edge.reshape(place.shape))
        elif layout.padding == "circular":
            read[:, near, part].copy_(parts[:, far, part])
        elif layout.padding == "replicate" and transposed:  # the end frame was taken twice
            read[:, far, part].add_(parts[:, far, part])
        elif layout.padding == "replicate":
            read[:, near, part].copy_(parts[:, near, part])


class _Shift(torch.autograd.Function):
    """Linear: its gradient is its transpose, and that one's is itself. Autograd by parts copies a tensor for each.

    Of the older kind, without ``setup_context``: the newer one, which torch.func could transform, looks at the
    signature in each call, which takes longer than a small shift.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_frames: int, layout: ShiftLayout, transposed: bool, in_place: bool) -> Tensor:
        ctx.settings = num_frames, layout, transposed
        if in_place:
            ctx.mark_dirty(x)
        return shift_(x if in_place else x.clone(), num_frames, layout, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        num_frames, layout, transposed = ctx.settings
        return _shifted(grad, num_frames, layout, not transposed), None, None, None, None


def _shifted(x: Tensor, num_frames: int, layout: ShiftLayout, transposed: bool) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        shifted: Tensor = _Shift.apply(x, num_frames, layout, transposed, False)
        return shifted
    return shift_(x.clone(), num_frames, layout, transposed=transposed)


def shifted_in_place(x: Tensor, num_frames: int, layout: ShiftLayout) -> Tensor:
    """Eq. 3 in place, with its gradient where one is wanted: for an output that no backward pass reads.

    Autograd raises a RuntimeError in the backward pass if one does.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        shifted: Tensor = _Shift.apply(x, num_frames, layout, False, True)
        return shifted
    return shift_(x, num_frames, layout)


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
