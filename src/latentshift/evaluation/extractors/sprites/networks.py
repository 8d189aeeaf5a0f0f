"""The networks of the extractors ``sprites-frames`` and ``sprites-clips``.

A classifier of what a frame or clip shows, that also reads off where the thing is, how it moves, and how degraded the
picture is. Features come from the last layer that all of these share. A classifier alone would learn to overlook a
blur, and a distance between its features would overlook it too.

Knows no sprites, files or training. Legend of shapes: N frames, B clips, F frames of a clip, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SIZE = 64  # side of the frames in pixels


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is built from; its JSON lies beside the weights.

    Attributes:
        channels: of the convolutions over a frame, each of which halves its sides.
        place_channels: of what is kept of each place.
        frame_width: of the vector that stands for one frame.
        clip_channels: of the convolutions over the frames of a clip; none for a network of single frames.
        features: D.
        classes: name of what is classified -> its number of classes.
        readings: names of the numbers that are read off.
    """

    channels: Sequence[int]
    place_channels: int
    frame_width: int
    clip_channels: Sequence[int]
    features: int
    classes: Mapping[str, int]
    readings: Sequence[str]


class SpritesNetwork(nn.Module):
    """Frames or clips -> hidden state -> class logits, readings, and features.

    The hidden state is normalized over the training samples, without a scale of its own. In training, noise is added to
    it before the heads: so nothing that the heads read stays in directions of tiny variance, where a distance between
    features would hardly see it. The features are the hidden state after a fixed linear map, which brings that of
    clean samples to zero mean and about unit variance in all directions.
    """

    NOISE = 0.3  # standard deviation; that of the hidden state is 1

    centre: Tensor
    whiten: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.features
        self.config = config
        self.frame = _FrameEncoder(config)
        self.clip = _clip_encoder(config.frame_width, config.clip_channels) if config.clip_channels else None
        self.project = nn.Linear(2 * config.clip_channels[-1] if self.clip else config.frame_width, width, bias=False)
        self.normalize = nn.BatchNorm1d(width, affine=False)
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in config.classes.items()})
        self.read = nn.Linear(width, len(config.readings))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("whiten", torch.eye(width))

    def hidden(self, x: Tensor) -> Tensor:
        """Hidden state (N, D) of frames (N, 3, 64, 64), or (B, D) of clips (B, F, 3, 64, 64), in [-1, 1]."""
        if self.clip is None:
            return self.normalize(self.project(self.frame(x)))
        along = self.frame(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(1, 2)  # (B, C, F)
        along = self.clip(along)
        return self.normalize(self.project(torch.cat([along.mean(-1), along.amax(-1)], dim=1)))

    def features(self, hidden: Tensor) -> Tensor:
        """Features (N, D) of a hidden state."""
        return (hidden - self.centre) @ self.whiten

    def logits(self, hidden: Tensor) -> dict[str, Tensor]:
        """Class logits, (N, classes) by name."""
        return {name: head(hidden) for name, head in self.heads.items()}

    def forward(self, x: Tensor, noise: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Training: logits by name and readings (N, R), with ``noise`` (N, D), standard normal, on the hidden state."""
        hidden = self.hidden(x) + self.NOISE * noise
        return self.logits(hidden), self.read(hidden)


class _FrameEncoder(nn.Module):
    """Frames (N, 3, 64, 64) -> (N, frame_width): what is seen anywhere, and what is seen at each place."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in config.channels:
            layers += _convolution(before, after, stride=2)
            before = after
        self.convolutions = nn.Sequential(*layers, *_convolution(before, before, stride=1))
        self.place = nn.Conv2d(before, config.place_channels, 1)
        places = (SIZE >> len(config.channels)) ** 2
        self.join = nn.Linear(before + config.place_channels * places, config.frame_width)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.convolutions(x)
        return self.join(torch.cat([maps.amax((2, 3)), self.place(maps).flatten(1)], dim=1)).relu()


def _convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def _clip_encoder(width: int, channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for level, after in enumerate(channels):
        reach = 2**level  # frames
        convolution = nn.Conv1d(width, after, 3, padding=reach, dilation=reach, bias=False)
        layers += [convolution, nn.BatchNorm1d(after), nn.ReLU()]
        width = after
    return nn.Sequential(*layers)
