"""The temporal shift (Latent-Shift, Eq. 3): the one place where the frames of a video meet.

Frames fold into the batch of an image U-Net: a batch of B videos with F frames each is an image batch (B·F, C, H, W)
in which the frames of a video lie side by side. Before the first convolution of every ResNet block's residual branch,
a third of the channels comes from the previous frame, a third from the next, and the rest stays.

The shift sits at the output of the block's first GroupNorm: what follows up to the convolution (SiLU, resampling)
works frame by frame and keeps zeros zero, so shifting there is shifting the convolution's input. No parameter, buffer
or state-dict key changes, and whatever wraps the convolution (a LoRA, say) sees the shifted input.

Knows nothing of text, diffusion or pipelines. Legend of shapes: B videos, F frames, C channels, H × W.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

Padding = Literal["zeros", "circular"]
Direction = Literal["first_from_past", "first_from_future"]


@dataclass(frozen=True)
class ShiftConfig:
    """How channels are shared between neighbouring frames.

    Attributes:
        fold: ``⌊C / fold⌋`` channels are taken from each neighbour (Table 6, "Shift Fold 3": a third each). Where C
            does not divide, the channels left over stay in the middle: 320 channels are 106 + 108 + 106.
        padding: what stands beyond the ends: ``"zeros"`` (Eq. 3), or ``"circular"``, in which the last frame is the
            first frame's past (for loops without a seam).
        direction: whether the first channels come from the previous frame (Eq. 3) or from the next.

    Raises:
        ValueError: for a fold below 3 (nothing of the frame itself would be sure to stay), or an unknown word.
    """

    fold: int = 3
    padding: Padding = "zeros"
    direction: Direction = "first_from_past"

    def __post_init__(self) -> None:
        if not isinstance(self.fold, int) or self.fold < 3:
            raise ValueError(f"the shift's fold must be a whole number of 3 or more, not {self.fold!r}")
        if self.padding not in ("zeros", "circular"):
            raise ValueError(f'the shift\'s padding must be "zeros" or "circular", not {self.padding!r}')
        if self.direction not in ("first_from_past", "first_from_future"):
            raise ValueError(
                f'the shift\'s direction must be "first_from_past" or "first_from_future", not {self.direction!r}'
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a pipeline's ``model_index.json``; :meth:`from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ShiftConfig:
        """From plain values; what is left out is the paper's.

        Raises:
            ValueError: for a setting that there is not, or a value that does not hold.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"the shift has the settings {', '.join(known)}, and no {', '.join(unknown)}")
        return cls(**values)


def temporal_shift(x: Tensor, num_frames: int, config: ShiftConfig = ShiftConfig()) -> Tensor:
    """Eq. 3, for frames folded into the batch.

    Args:
        x: (B·F, C, H, W) with C ≥ 3, any dtype and memory format (channels-last stays channels-last).
        num_frames: F ≥ 1; the batch must hold whole videos.

    Returns:
        A new tensor of the same shape, dtype and memory format. With F = 1 and zero padding only the middle channels
        are left.

    Raises:
        ValueError: if the batch does not divide into videos of ``num_frames``, or there are fewer channels than folds.
    """
    batch, channels = x.shape[:2]
    if num_frames < 1 or batch % num_frames != 0:
        raise ValueError(f"a batch of {batch} frames does not divide into videos of {num_frames} frames")
    if channels < config.fold:
        raise ValueError(f"{channels} channels are too few to shift with fold {config.fold}")
    share = channels // config.fold

    # Work in the order that the tensor has in memory, so that the result has it too.
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    z = (x.permute(0, 2, 3, 1) if channels_last else x).unflatten(0, (-1, num_frames))  # (B, F, …)
    dim = -1 if channels_last else 2
    first, middle, last = z.split([share, channels - 2 * share, share], dim=dim)
    if config.direction == "first_from_past":
        first, last = _from_past(first, config.padding), _from_future(last, config.padding)
    else:
        first, last = _from_future(first, config.padding), _from_past(last, config.padding)
    shifted = torch.cat([first, middle, last], dim=dim).flatten(0, 1)
    return shifted.permute(0, 3, 1, 2) if channels_last else shifted


def _from_past(z: Tensor, padding: Padding) -> Tensor:
    edge = z[:, -1:] if padding == "circular" else torch.zeros_like(z[:, :1])
    return torch.cat([edge, z[:, :-1]], dim=1)


def _from_future(z: Tensor, padding: Padding) -> Tensor:
    edge = z[:, :1] if padding == "circular" else torch.zeros_like(z[:, :1])
    return torch.cat([z[:, 1:], edge], dim=1)


class ClipContext:
    """What all shifted layers of one U-Net share: the settings, and the frame count of the call at hand.

    The count stays after the call, so that activation checkpointing recomputes with it. So under checkpointing a call
    with another count must not come between a forward pass and its backward pass.
    """

    def __init__(self, config: ShiftConfig) -> None:
        self.config = config
        self.num_frames = 1
        self.default_num_frames = 1


class ShiftedGroupNorm(nn.GroupNorm):
    """A GroupNorm, with the very parameters of the one it stands for, whose output is shifted in time."""

    def __init__(self, norm: nn.GroupNorm, clip: ClipContext) -> None:
        super().__init__(norm.num_groups, norm.num_channels, eps=norm.eps, affine=False)
        self.affine = norm.affine
        self.weight = norm.weight
        self.bias = norm.bias
        self.training = norm.training
        self._clip = clip

    def forward(self, input: Tensor) -> Tensor:
        return temporal_shift(super().forward(input), self._clip.num_frames, self._clip.config)

    def plain(self) -> nn.GroupNorm:
        """The image model's layer again, with the same parameters."""
        norm = nn.GroupNorm(self.num_groups, self.num_channels, eps=self.eps, affine=False)
        norm.affine, norm.weight, norm.bias, norm.training = self.affine, self.weight, self.bias, self.training
        return norm


def install(unet: nn.Module, config: ShiftConfig | None = None) -> nn.Module:
    """Put the shift into every ResNet block of a stock diffusers ``UNet2DConditionModel``, in place.

    Afterwards ``unet(sample, timestep, text, num_frames=16)`` is a video model; a call without ``num_frames`` makes
    images (or what :func:`default_frames` says). Parameters, buffers and state-dict keys stay as they are.

    Returns:
        The same U-Net.

    Raises:
        ValueError: if the shift is there already, or the U-Net has no ResNet block or one of another kind.
    """
    if clip_context(unet) is not None:
        raise ValueError("the temporal shift is installed on this U-Net already; remove it first")
    module = _uncompiled(unet)
    blocks = _resnet_blocks(unet)
    if not blocks:
        raise ValueError(f"{type(unet).__name__} has no ResNet blocks to install the temporal shift on")
    config = config or ShiftConfig()
    for name, block in blocks.items():
        norm = block.norm1
        if type(norm) is not nn.GroupNorm:
            raise ValueError(f"cannot shift {name}.norm1: it is a {type(norm).__name__}, not a GroupNorm")
        if norm.num_channels < config.fold:
            raise ValueError(f"cannot shift {name}: {norm.num_channels} channels are too few for fold {config.fold}")
    clip = ClipContext(config)
    for block in blocks.values():
        block.norm1 = ShiftedGroupNorm(cast(nn.GroupNorm, block.norm1), clip)
    handle = module.register_forward_pre_hook(_take_num_frames, with_kwargs=True)
    # Plain attributes: nothing that a state dict or a config would hold.
    object.__setattr__(module, "_clip_context", clip)
    object.__setattr__(module, "_clip_hook", handle)
    return unet


def remove(unet: nn.Module) -> nn.Module:
    """Take the shift out again, in place: the image model is back, bit for bit.

    Raises:
        ValueError: if the shift is not installed.
    """
    if clip_context(unet) is None:
        raise ValueError("the temporal shift is not installed on this U-Net")
    for block in _resnet_blocks(unet).values():
        block.norm1 = cast(ShiftedGroupNorm, block.norm1).plain()
    module = _uncompiled(unet)
    module._clip_hook.remove()  # type: ignore[union-attr, operator]
    object.__delattr__(module, "_clip_context")
    object.__delattr__(module, "_clip_hook")
    return unet


def clip_context(unet: nn.Module) -> ClipContext | None:
    """What the shifted layers of this U-Net share, or None where the shift is not installed."""
    return cast("ClipContext | None", getattr(_uncompiled(unet), "_clip_context", None))


@contextmanager
def default_frames(unet: nn.Module, num_frames: int) -> Iterator[None]:
    """Calls inside that give no ``num_frames`` make videos of this many frames.

    This is what lets code that knows nothing of video, a stock image pipeline say, make one: ask it for
    ``num_images_per_prompt=num_frames``.

    Raises:
        ValueError: if the shift is not installed.
    """
    clip = clip_context(unet)
    if clip is None:
        raise ValueError("the temporal shift is not installed on this U-Net")
    before, clip.default_num_frames = clip.default_num_frames, num_frames
    try:
        yield
    finally:
        clip.default_num_frames = before


def _uncompiled(unet: nn.Module) -> nn.Module:
    # torch.compile(unet) is a wrapper, which hands attributes on when they are read and not when they are set.
    return cast(nn.Module, getattr(unet, "_orig_mod", unet))


def _resnet_blocks(unet: nn.Module) -> dict[str, nn.Module]:
    # By name: every diffusers U-Net family (LDM, SD 1, SD 2, SDXL) builds from this one class.
    return {name: module for name, module in unet.named_modules() if type(module).__name__ == "ResnetBlock2D"}


def _take_num_frames(
    unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    clip = cast(ClipContext, clip_context(unet))
    num_frames = kwargs.pop("num_frames", None)
    clip.num_frames = clip.default_num_frames if num_frames is None else num_frames
    return args, kwargs
