"""Whether a U-Net still has the weights that were made a part of its compiled code.

Such code does not read the U-Net's weights any more. A merged LoRA or a change through ``weight.data`` leaves no trace
in a parameter, so the bits of all weights are summed up: once in each sampling, and again after each callback. Where in
a tensor a weight stands counts too: kernels that are mirrored, or channels that change places, are other weights.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from latentshift.models.conditioning.text_projection import weights_token, weights_version

_WIDTH = 1024  # of the grid
_BY_WIDTH = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}  # bytes -> whole numbers


class FrozenWeights:
    """The weights and buffers of a U-Net as they are now, to be compared with later.

    Args:
        unet: on the CPU.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._sums = _bit_sums(self._tensors())
        self._token: object | None = None
        self._marks: list[tuple[int, int]] = []
        self._unchanged = True

    def are_unchanged(self) -> bool:
        """Whether the U-Net has them still."""
        token, tensors = weights_token(), self._tensors()
        marks = [(tensor.data_ptr(), weights_version(tensor)) for tensor in tensors]
        if token is None or token is not self._token or marks != self._marks:
            self._unchanged = _bit_sums(tensors) == self._sums
            self._token, self._marks = token, marks
        return self._unchanged

    def _tensors(self) -> list[Tensor]:
        return [*self._unet.parameters(), *self._unet.buffers()]


def _bit_sums(tensors: list[Tensor]) -> list[tuple[torch.dtype, torch.Size, int]]:
    """Dtype, shape, and a sum of the bits of each, taken as whole numbers of up to 8 bytes."""
    sums = [_placed_sum(_as_numbers(tensor)) for tensor in tensors]
    values = torch.stack(sums).tolist() if sums else []
    return [(tensor.dtype, tensor.shape, value) for tensor, value in zip(tensors, values, strict=True)]


def _placed_sum(numbers: Tensor) -> Tensor:
    """Sums of the rows and of the columns of a grid of whole numbers, each times a factor of its own, modulo 2⁶⁴."""
    whole = len(numbers) // _WIDTH * _WIDTH
    grid = numbers[:whole].view(-1, _WIDTH)
    sums = torch.cat([grid.sum(1, dtype=torch.int64), grid.sum(0, dtype=torch.int64), numbers[whole:].long()])
    return (sums * _factors(len(sums))).sum()


@cache
def _factors(count: int) -> Tensor:
    """Odd numbers that are the same in each call."""
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randint(-(2**62), 2**62, (count,), generator=generator, device="cpu") * 2 + 1


def _as_numbers(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    begin = flat.storage_offset() * flat.itemsize
    return flat.view(next(dtype for width, dtype in _BY_WIDTH.items() if flat.nbytes % width == begin % width == 0))
