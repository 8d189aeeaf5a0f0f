"""SDXL's conditions on sizes: what a call says of the picture that its frames are to look cut from."""

from __future__ import annotations

from torch import nn

from latentshift.models.denoiser import wants_sizes

Pair = tuple[int, int] | None


def read_image_sizes(
    unet: nn.Module, original: Pair, corner: Pair, target: Pair, height: int, width: int
) -> tuple[int, ...]:
    """The six numbers that :meth:`latentshift.diffusion.condition.TextCondition.with_sizes` takes.

    Args:
        unet: of the call.
        original: (height, width) in pixels; None: those of the frames.
        corner: of the crop, (top, left) in pixels; None: (0, 0).
        target: (height, width) in pixels; None: those of the frames.
        height: of the frames in pixels.
        width: of the frames in pixels.

    Raises:
        ValueError: if one is given to a U-Net that takes none.
    """
    if any(each is not None for each in (original, corner, target)) and not wants_sizes(unet):
        raise ValueError(
            "original_size, crops_coords_top_left and target_size are for SDXL only; this model does not take them"
        )
    size = height, width
    return (*(original or size), *(corner or (0, 0)), *(target or size))
