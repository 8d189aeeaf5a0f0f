"""The state of an unfinished training: everything that the next step depends on, in one safetensors file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from latentshift.files import atomic_write


def save_state(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the weights and AdamW's moments after so many steps."""
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter, kind in _moments(network):
        tensors[name] = optimizer.state[parameter][kind].contiguous()
    write_bytes(path, save(tensors, metadata={"step": str(step)}))


def load_state(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a saved state into a network and its optimizer, and return its number of steps.

    Raises:
        ValueError: if the file is damaged, or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(f"network.{name}") for name in network.state_dict()})
            for name, parameter, kind in _moments(network):
                moment = torch.empty_like(torch.tensor(0.0) if kind == "step" else parameter)  # keeps the layout
                optimizer.state[parameter][kind] = moment.copy_(file.get_tensor(name))
            return int(file.metadata()["step"])
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} can't be gone on from ({type(error).__name__}): delete it to start anew") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _moments(network: nn.Module) -> Iterator[tuple[str, Tensor, str]]:
    for name, parameter in network.named_parameters():
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            yield f"{kind}.{name}", parameter, kind
