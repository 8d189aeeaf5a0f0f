"""The Inception network of 2015 behind published FIDs, with the tensor names of torch-fidelity's weights.

Szegedy et al. 2015, arXiv 1512.00567, as TensorFlow's graph of 2015-12-05 has it. It differs from torchvision's
Inception v3 in three places: average pooling does not count the zeros of the padding, the last block's pooling takes
the maximum, and there are 1008 classes. Knows no file and no preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, linear, max_pool2d, relu

FEATURES, CLASSES = 2048, 1008


@dataclass(frozen=True)
class _Layer:
    """A convolution's name, output channels, kernel and stride; where the stride is 1 it keeps the size."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


_Step = _Layer | tuple[_Layer, _Layer]  # two have the same input, and their outputs are concatenated
_Branch = tuple[_Step, ...]  # one step after another
_Block = tuple[tuple[_Branch, ...], str, int]  # branches, kind of pooling, channels of the pooled branch


def _layers(step: _Step) -> tuple[_Layer, ...]:
    return step if isinstance(step, tuple) else (step,)


class _Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, layer: _Layer, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, layer.channels, layer.kernel, layer.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side, and a pooled one (followed by a convolution, or alone where it halves the size)."""

    def __init__(self, in_channels: int, branches: tuple[_Branch, ...], pool: str, pool_channels: int = 0) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        self.out_channels = pool_channels or in_channels
        for branch in branches:
            channels = in_channels
            for step in branch:
                for layer in _layers(step):
                    self._add(channels, layer)
                channels = sum(layer.channels for layer in _layers(step))
            self.out_channels += channels
        if pool_channels:
            self._add(in_channels, _Layer("branch_pool", pool_channels))

    def _add(self, in_channels: int, layer: _Layer) -> None:
        height, width = layer.kernel
        padding = (height // 2, width // 2) if layer.stride == 1 else (0, 0)
        self.add_module(layer.name, _Convolution(in_channels, layer, padding))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = torch.cat([self.get_submodule(layer.name)(y) for layer in _layers(step)], 1)
            outputs.append(y)
        if self.pool == "average":  # the zeros around the picture are not counted, as in TensorFlow
            pooled = avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
        elif self.pool == "maximum":
            pooled = max_pool2d(x, 3, 1, padding=1)
        else:
            pooled = max_pool2d(x, 3, 2)
        if "branch_pool" in self._modules:
            pooled = self.get_submodule("branch_pool")(pooled)
        return torch.cat([*outputs, pooled], 1)


def _wide(pool_channels: int) -> _Block:
    """Blocks at 35x35: 1x1, 5x5, and two 3x3."""
    return (
        (
            (_Layer("branch1x1", 64),),
            (_Layer("branch5x5_1", 48), _Layer("branch5x5_2", 64, (5, 5))),
            (_Layer("branch3x3dbl_1", 64), *(_Layer(f"branch3x3dbl_{n}", 96, (3, 3)) for n in (2, 3))),
        ),
        "average",
        pool_channels,
    )


_TO_17: _Block = (
    (
        (_Layer("branch3x3", 384, (3, 3), 2),),
        (
            _Layer("branch3x3dbl_1", 64),
            _Layer("branch3x3dbl_2", 96, (3, 3)),
            _Layer("branch3x3dbl_3", 96, (3, 3), 2),
        ),
    ),
    "halve",
    0,
)


def _factorized(channels: int) -> _Block:
    """Blocks at 17x17: 7x7 convolutions as pairs of 1x7 and 7x1."""
    across, down = (1, 7), (7, 1)
    return (
        (
            (_Layer("branch1x1", 192),),
            (
                _Layer("branch7x7_1", channels),
                _Layer("branch7x7_2", channels, across),
                _Layer("branch7x7_3", 192, down),
            ),
            (
                _Layer("branch7x7dbl_1", channels),
                _Layer("branch7x7dbl_2", channels, down),
                _Layer("branch7x7dbl_3", channels, across),
                _Layer("branch7x7dbl_4", channels, down),
                _Layer("branch7x7dbl_5", 192, across),
            ),
        ),
        "average",
        192,
    )


_TO_8: _Block = (
    (
        (_Layer("branch3x3_1", 192), _Layer("branch3x3_2", 320, (3, 3), 2)),
        (
            _Layer("branch7x7x3_1", 192),
            _Layer("branch7x7x3_2", 192, (1, 7)),
            _Layer("branch7x7x3_3", 192, (7, 1)),
            _Layer("branch7x7x3_4", 192, (3, 3), 2),
        ),
    ),
    "halve",
    0,
)


def _forked(pool: str) -> _Block:
    """Blocks at 8x8: 3x3 convolutions as 1x3 beside 3x1."""

    def fork(name: str) -> tuple[_Layer, _Layer]:
        return _Layer(f"{name}a", 384, (1, 3)), _Layer(f"{name}b", 384, (3, 1))

    return (
        (
            (_Layer("branch1x1", 320),),
            (_Layer("branch3x3_1", 384), fork("branch3x3_2")),
            (_Layer("branch3x3dbl_1", 448), _Layer("branch3x3dbl_2", 384, (3, 3)), fork("branch3x3dbl_3")),
        ),
        pool,
        192,
    )


_BLOCKS = {
    "Mixed_5b": _wide(32),
    "Mixed_5c": _wide(64),
    "Mixed_5d": _wide(64),
    "Mixed_6a": _TO_17,
    "Mixed_6b": _factorized(128),
    "Mixed_6c": _factorized(160),
    "Mixed_6d": _factorized(160),
    "Mixed_6e": _factorized(192),
    "Mixed_7a": _TO_8,
    "Mixed_7b": _forked("average"),
    "Mixed_7c": _forked("maximum"),
}


class InceptionNetwork(nn.Module):
    """From pictures (N, 3, 299, 299) in [-1, 1) to features (N, 2048); ``fc`` has the weights of the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, _Layer("", 32, (3, 3), 2), (0, 0))
        self.Conv2d_2a_3x3 = _Convolution(32, _Layer("", 32, (3, 3)), (0, 0))
        self.Conv2d_2b_3x3 = _Convolution(32, _Layer("", 64, (3, 3)), (1, 1))
        self.Conv2d_3b_1x1 = _Convolution(64, _Layer("", 80), (0, 0))
        self.Conv2d_4a_3x3 = _Convolution(80, _Layer("", 192, (3, 3)), (0, 0))
        channels = 192
        for name, (branches, pool, pool_channels) in _BLOCKS.items():
            block = _Mixed(channels, branches, pool, pool_channels)
            self.add_module(name, block)
            channels = block.out_channels
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (N, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))  # (N, 192, 71, 71)
        x = max_pool2d(x, 3, 2)  # (N, 192, 35, 35)
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Class scores (N, 1008) without the bias, as the inception score of Salimans et al. 2016 takes them."""
        return linear(features, self.fc.weight)
