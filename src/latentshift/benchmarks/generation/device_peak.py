"""How fast this device multiplies matrices and convolves, in one dtype: what a pass is compared with.

Both are of the sizes at which a U-Net spends its time or larger, and are to be called in a process of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from latentshift.benchmarks.generation.settings import GenerationSettings
from latentshift.benchmarks.generation.time_model import Timing, building, prepare, repeat

_FRAMES, _CHANNELS, _SIDE = 16, 320, 32  # of the convolution: the paper's topmost level


def product_flops(settings: GenerationSettings) -> int:
    """Of the matrix product that :func:`time_product` repeats."""
    return 2 * _product_side(settings) ** 3


def convolution_flops() -> int:
    """Of the convolution that :func:`time_convolution` repeats."""
    return 2 * 9 * _CHANNELS**2 * _FRAMES * _SIDE**2


@torch.no_grad()
def time_product(settings: GenerationSettings) -> Timing:
    """A product of two square matrices."""
    prepare(settings)
    side = _product_side(settings)
    with building(settings):
        left, right = torch.randn(side, side), torch.randn(side, side)
    return repeat(lambda: left @ right, settings)


@torch.no_grad()
def time_convolution(settings: GenerationSettings) -> Timing:
    """A 3×3 convolution of 320 channels on 16 frames of 32×32, with channels last in memory."""
    prepare(settings)
    with building(settings):
        hidden, weight = torch.randn(_FRAMES, _CHANNELS, _SIDE, _SIDE), torch.randn(_CHANNELS, _CHANNELS, 3, 3)

    def last(values: Tensor) -> Tensor:
        return values.contiguous(memory_format=torch.channels_last)

    hidden, weight = last(hidden), last(weight)
    return repeat(lambda: conv2d(hidden, weight, padding=1), settings)


def _product_side(settings: GenerationSettings) -> int:
    return 2048 if settings.device == "cpu" else 8192
