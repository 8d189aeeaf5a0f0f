"""The temporal shift (Latent-Shift, Eq. 3): the only operation across the frames of a video.

Before the first convolution of every ResNet block's residual branch,
a third of the channels comes from the previous frame, a third from the next, and the rest stays.

The shift sits at the output of the block's first GroupNorm: what follows up to the convolution (SiLU, resampling)
works frame by frame and keeps zeros zero, so shifting there is shifting the convolution's input. No parameter, buffer
or state-dict key changes, and whatever wraps the convolution (a LoRA, say) sees the shifted input.

Beyond the paper it can sit likewise before the second convolution, or at the block's input, and in a part of the blocks
(:class:`latentshift.settings.ShiftConfig`).

Knows nothing of text, diffusion or pipelines. Legend of shapes: B videos, F frames, C channels, H × W.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, group_norm, is_grad_enabled, nn
from torch._C import _is_tracing
from torch.compiler import is_compiling
from torch.nn.modules.module import _has_any_global_hook

from latentshift.frame_context import FrameContext, frame_context, register, unregister
from latentshift.settings import Padding, ShiftConfig
from latentshift.shift_copy import (
    SMALL,
    OverwritableTensor,
    ShiftLayout,
    is_channels_last,
    is_transformed,
    kept_passage,
    move_through,
    shift_,
    shifted_copy,
    shifted_in_place,
)

# What each call of a layer uses is imported by its name: in a step, when convolutions have filled the caches, a look-up
# in a module as large as torch takes microseconds.

_NAME = "the temporal shift"
_NORMS = {"conv1": "norm1", "conv2": "norm2"}  # place -> the layer whose output goes there


def temporal_shift(
    x: Tensor,
    num_frames: int,
    config: ShiftConfig = ShiftConfig(),
    before: Tensor | None = None,
    after: Tensor | None = None,
) -> Tensor:
    """Eq. 3, for frames folded into the batch.

    Args:
        x: (B·F, C, H, W) with C ≥ 3, any dtype and memory format (channels-last stays channels-last).
        num_frames: F ≥ 1; the batch must hold complete videos, or the same frames of longer ones.
        config: fold, padding and direction; not place and blocks.
        before: if frames of the videos precede these: what the first one takes from the last of them, (B, ⌊C/3⌋, H, W),
            as :func:`edges` gives it. None: nothing precedes, and the padding says what stands there.
        after: likewise, what the last frame takes from the first of those that follow.

    Returns:
        A new tensor of the same shape, dtype and memory format. With F = 1 and zero padding only the middle channels
        are left. With any other padding a single frame, and each of F equal frames, has the values of ``x``.

    Raises:
        ValueError: if the batch does not divide into videos of ``num_frames``, or there are fewer channels than folds.
    """
    _check(x, num_frames, config)
    if _is_recorded() or (is_grad_enabled() and before is not None):
        return _joined_parts(x, num_frames, config, before, after)
    return shifted_copy(x, num_frames, ShiftLayout.of(x.shape[1], config), before, after)


def _joined_parts(
    x: Tensor, num_frames: int, config: ShiftConfig, before: Tensor | None, after: Tensor | None
) -> Tensor:
    """Of operations alone that have a name in every runtime, which compilers fuse, and that write into no tensor."""
    # Work in the order that the tensor has in memory, so that the result has it too.
    channels_last = is_channels_last(x)
    z = (x.permute(0, 2, 3, 1) if channels_last else x).unflatten(0, (-1, num_frames))  # (B, F, …)
    if channels_last:
        before, after = (None if edge is None else edge.permute(0, 2, 3, 1) for edge in (before, after))
    dim = -1 if channels_last else 2
    first, middle, last = z.split(ShiftLayout.of(x.shape[1], config).sizes, dim=dim)
    if config.direction == "first_from_future":
        first, last = _from_future(first, after, config.padding), _from_past(last, before, config.padding)
    else:
        first, last = _from_past(first, before, config.padding), _from_future(last, after, config.padding)
    shifted = torch.cat([first, middle, last], dim=dim).flatten(0, 1)
    return shifted.permute(0, 3, 1, 2) if channels_last else shifted


def edges(x: Tensor, num_frames: int, config: ShiftConfig) -> tuple[Tensor, Tensor]:
    """What the shift of the frames before and after these takes from them.

    Args:
        x: as for :func:`temporal_shift`.
        num_frames: as for :func:`temporal_shift`.
        config: as for :func:`temporal_shift`.

    Returns:
        Channels of the first frame, ``after`` of the frames before; and of the last one, ``before`` of the frames
        after: two views (B, ⌊C/3⌋, H, W), the first with no channels where nothing comes from the future.
    """
    first, _, last = x.unflatten(0, (-1, num_frames)).split(ShiftLayout.of(x.shape[1], config).sizes, dim=2)
    from_past, from_future = (last, first) if config.direction == "first_from_future" else (first, last)
    return from_future[:, 0], from_past[:, -1]


def _from_past(z: Tensor, before: Tensor | None, padding: Padding) -> Tensor:
    edge = _beyond(z[:, :1], z[:, -1:], padding) if before is None else before.unsqueeze(1)
    return torch.cat([edge, z[:, :-1]], dim=1)


def _from_future(z: Tensor, after: Tensor | None, padding: Padding) -> Tensor:
    edge = _beyond(z[:, -1:], z[:, :1], padding) if after is None else after.unsqueeze(1)
    return torch.cat([z[:, 1:], edge], dim=1)


def _beyond(end: Tensor, other_end: Tensor, padding: Padding) -> Tensor:
    """What stands beyond one end of the videos, (B, 1, …)."""
    if padding == "zeros":
        return torch.zeros_like(end)
    return end if padding == "replicate" else other_end


def _shift_of_call(
    x: Tensor, context: FrameContext, config: ShiftConfig, in_place: ShiftLayout | None = None
) -> Tensor:
    """The shift of ``x`` by the frame count of the U-Net's call, and by the edges of its neighbours if it is a part."""
    thread = context.thread
    if thread.frames_independent:
        return x
    num_frames = thread.num_frames or context.num_frames  # which says what is wrong outside a call
    exchange = thread.exchange
    around = () if exchange is None else exchange(*edges(x, num_frames, config))
    if in_place is None or (around and is_grad_enabled()):
        return temporal_shift(x, num_frames, config, *around)
    _check(x, num_frames, config)
    return shift_(x, num_frames, in_place, *around) if around else shifted_in_place(x, num_frames, in_place)


def _is_recorded() -> bool:
    """Whether what is called is recorded, to be compiled or exported, or transformed, as by ``torch.func``."""
    return is_compiling() or _is_tracing() or is_transformed()


def _check(x: Tensor, num_frames: int, config: ShiftConfig) -> None:
    batch, channels = x.shape[:2]
    if num_frames < 1 or batch % num_frames != 0:
        raise ValueError(f"a batch of {batch} frames does not divide into videos of {num_frames} frames")
    if channels < config.fold:
        raise ValueError(f"{channels} channels are too few to shift with fold {config.fold}")


class ShiftedGroupNorm(nn.GroupNorm):
    """A GroupNorm that shares the parameters of the one it replaces, and shifts its output in time."""

    def __init__(self, norm: nn.GroupNorm, context: FrameContext, config: ShiftConfig, nonlinearity: nn.Module) -> None:
        super().__init__(norm.num_groups, norm.num_channels, eps=norm.eps, affine=False)
        self.affine = norm.affine
        self.weight = norm.weight
        self.bias = norm.bias
        self.training = norm.training
        self._context = context
        self._config = config
        self._layout = ShiftLayout.of(norm.num_channels, config)
        self._reader = (nonlinearity,)  # in a tuple, so that it is no submodule

    def forward(self, input: Tensor) -> Tensor:
        """(B·F, C, H, W) to the same shape; F is that of the U-Net's call."""
        # Not functional.group_norm, whose checks in Python take as long as the shift of a small tensor.
        normed = group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
        if type(normed) is not Tensor or _is_recorded():
            return _shift_of_call(normed, self._context, self._config)
        # The shift works in place of the norm's output, which no one else holds and no backward pass reads.
        if is_grad_enabled():
            return _shift_of_call(normed, self._context, self._config, self._layout)
        thread = self._context.thread
        of_call = thread.num_frames, thread.frames_independent, thread.exchange
        kind = normed.shape, normed.stride(), normed.dtype, normed.is_cpu, of_call
        kept = thread.kept.get(self)
        if kept is not None and kept[0] == kind:
            return move_through(kept[1], normed)
        shifted = _shift_of_call(normed, self._context, self._config, self._layout)
        if shifted.nbytes >= SMALL:
            # SiLU works in place of it, too, if only SiLU sees it.
            return shifted if self._is_watched() else shifted.as_subclass(OverwritableTensor)
        if self._layout.padding == "zeros" and not thread.frames_independent and thread.exchange is None:
            passage = kept_passage(shifted, self._context.num_frames, self._layout)
            if passage is not None:
                thread.kept[self] = kind, passage
        return shifted

    def _is_watched(self) -> bool:
        """Whether somebody else may keep what goes from here to the nonlinearity."""
        reader = self._reader[0]
        return bool(
            self._forward_hooks
            or reader._forward_hooks
            or reader._forward_pre_hooks
            or _has_any_global_hook()
            or "forward" in vars(self)
            or "forward" in vars(reader)
        )

    def plain(self) -> nn.GroupNorm:
        """The original layer, with the same parameters."""
        norm = nn.GroupNorm(self.num_groups, self.num_channels, eps=self.eps, affine=False)
        norm.affine, norm.weight, norm.bias, norm.training = self.affine, self.weight, self.bias, self.training
        return norm


class ShiftedInput(nn.Module):
    """What a ResNet block's class derives from while the block shifts its own input.

    A class and not a hook: compiled code is made anew where a module's class changes, and not where it gets a hook.
    """

    _context: FrameContext
    _config: ShiftConfig

    def forward(self, input_tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().forward(_shift_of_call(input_tensor, self._context, self._config), *args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:  # a class made at run time can't be pickled by its name
        state = cast(tuple[Any, ...], super().__reduce_ex__(protocol))[2:]
        return _new_block, (type(self).__bases__[1],), *state


def _new_block(block_class: Any) -> nn.Module:
    shifted = _with_shifted_input(block_class)
    return shifted.__new__(shifted)


@cache
def _with_shifted_input(block_class: type[Any]) -> type[nn.Module]:
    # Of the same name, by which blocks are known (here, and where training is sharded).
    return type(block_class.__name__, (ShiftedInput, block_class), {"__module__": __name__})


def is_shifted(layer: nn.Module) -> bool:
    """Whether this very layer shifts what goes through it."""
    return isinstance(layer, (ShiftedGroupNorm, ShiftedInput))


def install(unet: nn.Module, config: ShiftConfig | Mapping[str, Any] | None = None) -> nn.Module:
    """Install the shift in the ResNet blocks of a stock diffusers ``UNet2DConditionModel``, in place.

    Afterwards ``unet(sample, timestep, text, num_frames=16)`` is a video model; a call without ``num_frames`` makes
    images (or what :func:`latentshift.frame_context.default_frames` says). Parameters, buffers and state-dict keys
    stay as they are. A ControlNet is an encoder alone: nothing in it shifts where ``blocks`` is ``"decoder"``.

    Args:
        unet: e.g. the ``unet`` of a pipeline.
        config: settings of the shift, or a dict of them, e.g. ``{"padding": "replicate"}``; None: the paper's.

    Returns:
        The same U-Net.

    Raises:
        ValueError: if the shift is installed already, the U-Net has no ResNet block or one of another kind, or this is
            no U-Net; for invalid settings.
    """
    if not isinstance(unet, nn.Module):
        raise ValueError(
            f"the temporal shift is installed on a U-Net, as pipe.unet, and not on a {type(unet).__name__}"
        )
    blocks = _resnet_blocks(unet)
    if not blocks:
        raise ValueError(f"{type(unet).__name__} has no ResNet blocks to install the temporal shift on")
    if not isinstance(config, ShiftConfig):
        config = ShiftConfig.from_dict({} if config is None else config)
    blocks = {name: block for name, block in blocks.items() if config.blocks in ("all", _part_of(name))}
    for name, block in blocks.items():
        _check_block(name, block, config)
    context = register(unet, _NAME, config)
    for block in blocks.values():
        if config.place == "block":
            block.__class__ = _with_shifted_input(cast(Any, type(block)))
            block._context, block._config = context, config  # type: ignore[assignment]
        else:
            norm = _NORMS[config.place]
            layer = cast(nn.GroupNorm, getattr(block, norm))
            nonlinearity = cast(nn.Module, block.nonlinearity)
            setattr(block, norm, ShiftedGroupNorm(layer, context, config, nonlinearity))
    return unet


def remove(unet: nn.Module) -> nn.Module:
    """Remove the shift, in place, which restores the image model bit for bit.

    Raises:
        ValueError: if the shift is not installed, or a block that shifts its own input has had its ``forward`` replaced
            since.
    """
    blocks = _resnet_blocks(unet)
    for name, block in blocks.items():
        if isinstance(block, ShiftedInput) and "forward" in vars(block):
            raise ValueError(
                f"cannot remove the shift of {name}: its forward was replaced (by torch.compile, say); restore it first"
            )
    unregister(unet, _NAME)
    for block in blocks.values():
        for name in _NORMS.values():
            if isinstance(norm := getattr(block, name), ShiftedGroupNorm):
                setattr(block, name, norm.plain())
        if isinstance(block, ShiftedInput):
            del block._context, block._config
            block.__class__ = type(block).__bases__[1]
    return unet


def shift_of(unet: nn.Module) -> ShiftConfig | None:
    """The settings of the shift on this U-Net, or None if it is not installed."""
    context = frame_context(unet)
    return None if context is None else context.installed.get(_NAME)


def _check_block(name: str, block: nn.Module, config: ShiftConfig) -> None:
    """Refuse a block that can't be shifted with these settings, before anything is changed."""
    layer = _NORMS.get(config.place, "norm1")
    norm = getattr(block, layer)
    if not isinstance(norm, nn.GroupNorm) or type(norm) not in (nn.GroupNorm, ShiftedGroupNorm):
        raise ValueError(f"cannot shift {name}.{layer}: it is a {type(norm).__name__}, not a GroupNorm")
    if norm.num_channels < config.fold:
        raise ValueError(f"cannot shift {name}: {norm.num_channels} channels are too few for fold {config.fold}")
    if config.place == "conv2" and block.time_embedding_norm == "scale_shift":
        raise ValueError(
            f'cannot shift {name} with place "conv2": this block scales and shifts by the timestep between its second '
            "norm and convolution, which leaves no zeros zero"
        )
    if config.place == "block" and "forward" in vars(block):
        raise ValueError(
            f'cannot shift {name} with place "block": its forward was replaced (by torch.compile, say); install the '
            "shift first"
        )
    if config.place != "block" and hasattr(norm, "_hf_hook"):  # which moves the weights of this very layer
        raise ValueError(
            f"cannot shift {name}: its layers are offloaded one by one; install the shift first, or call "
            "remove_all_hooks() of the pipeline, and enable_sequential_cpu_offload() after"
        )


def _part_of(name: str) -> str:
    """Whether a block of this name within the U-Net is of its encoder, with the middle, or of its decoder."""
    return "decoder" if "up_blocks" in name.split(".") else "encoder"


def _resnet_blocks(unet: nn.Module) -> dict[str, nn.Module]:
    # By name: every diffusers U-Net family (LDM, SD 1, SD 2, SDXL) builds from this one class.
    return {name: module for name, module in unet.named_modules() if type(module).__name__ == "ResnetBlock2D"}
