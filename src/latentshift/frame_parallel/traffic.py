"""What one video sends between processes, calculated: nothing is run.

In a pass of the U-Net each shifted block hands ⌊C / fold⌋ · h · w values of each video over each boundary between two
parts of the frames, in each direction that the shift looks in. Guidance over ranks adds the predictions, once a pass.
Legend of shapes: B videos in a call (with guidance, twice as many), C channels of a block, h × w latent pixels at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from latentshift.frame_context import uncompiled
from latentshift.settings import Padding
from latentshift.shift import ShiftedGroupNorm, is_shifted, shift_of


def boundaries(ranks: int, padding: Padding) -> int:
    """Between the parts of a video on so many ranks: one fewer, or in a ring as many."""
    return ranks if padding == "circular" and ranks > 1 else ranks - 1


def edge_values(unet: nn.Module, height: int, width: int) -> int:
    """Values of one video that cross one boundary in one direction, in one pass of a U-Net with the shift.

    Args:
        unet: a stock one, of the known families: its levels halve the size, and blocks keep it.
        height: of the latents.
        width: of them.

    Returns:
        Σ ⌊C / fold⌋ · h · w over the blocks that shift; 0 without the shift.
    """
    config = shift_of(unet)
    if config is None:
        return 0
    return sum(channels // config.fold * size for channels, size in _shifted_layers(uncompiled(unet), height, width))


def edge_bytes(
    unet: nn.Module, height: int, width: int, *, ranks: int, videos: int, passes: int, bytes_per_value: int
) -> int:
    """Bytes that all ranks together send one another at the boundaries between their frames.

    Args:
        unet: as for :func:`edge_values`.
        height: of the latents.
        width: of them.
        ranks: that have a part of the frames; with guidance over ranks, half of all.
        videos: that are made, times two with guidance.
        passes: of the U-Net, as many as the scheduler has timesteps.
        bytes_per_value: of the U-Net's dtype, 4 of float32.
    """
    config = shift_of(unet)
    if config is None:
        return 0
    directions = 1 if config.direction == "past_only" else 2
    crossed = boundaries(ranks, config.padding) * directions
    return crossed * videos * edge_values(unet, height, width) * passes * bytes_per_value


def guidance_bytes(latent_values: int, *, videos: int, passes: int, bytes_per_value: int) -> int:
    """Bytes that guidance over ranks sends: both predictions of each pass.

    Args:
        latent_values: F · C · h · w of a video.
        videos: that are made.
        passes: of the U-Net.
        bytes_per_value: of the U-Net's dtype.
    """
    return 2 * videos * latent_values * passes * bytes_per_value


def _shifted_layers(unet: Any, height: int, width: int) -> Iterator[tuple[int, int]]:
    """Channels and latent pixels of what each shifted block shifts."""
    sizes = [(height, width)]
    for block in unet.down_blocks:
        yield from ((channels, _pixels(sizes[-1])) for channels in _widths(block))
        if getattr(block, "downsamplers", None):
            high, wide = sizes[-1]
            sizes.append((-(-high // 2), -(-wide // 2)))
    if unet.mid_block is not None:
        yield from ((channels, _pixels(sizes[-1])) for channels in _widths(unet.mid_block))
    for block in unet.up_blocks:
        yield from ((channels, _pixels(sizes[-1])) for channels in _widths(block))
        if getattr(block, "upsamplers", None):
            sizes.pop()


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _widths(block: nn.Module) -> list[int]:
    norms: list[Any] = [
        layer if isinstance(layer, ShiftedGroupNorm) else layer.norm1 for layer in block.modules() if is_shifted(layer)
    ]
    return [norm.num_channels for norm in norms]
