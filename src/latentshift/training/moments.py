"""An optimizer's state as named tensors, and back: what of it a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentshift.training.sharding import lay_out


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state: ``{parameter number}.{name}``; whole numbers are tensors of one."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put :func:`optimizer_tensors` back into an optimizer over the same parameters.

    One by one, so that a tensor that will lie in shares is nowhere whole on a device beside the others.
    """
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        loaded: Tensor | int = value.to(parameter.device)
        if value.shape == parameter.shape:
            # The fused kernels walk through memory without a look at strides: every moment must lie as its parameter
            # lies, and a file holds them contiguous even where the parameter is channels-last.
            loaded = lay_out(value, parameter)
        elif value.dim() == 0 and value.dtype == torch.int64:
            loaded = int(value)  # bitsandbytes counts its steps so
        optimizer.state[parameter][name] = loaded


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
