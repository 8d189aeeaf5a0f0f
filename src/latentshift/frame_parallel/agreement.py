"""Whether processes that make one video together were asked for the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL.Image import Image
from torch import Tensor, nn

_BYTES = 16
_SAMPLED = 4  # values of each tensor of weights


def check_agreement(facts: Mapping[str, Any], group: Any) -> None:
    """Compare short digests of what each process was given; to be called by all of them.

    Args:
        facts: name -> value that must be the same everywhere; the names are for the message, and always the same ones.
        group: of these processes, for tensors on the CPU.

    Raises:
        ValueError: in all processes, naming what differs.
    """
    own = torch.stack([torch.frombuffer(bytearray(digest_of(value)), dtype=torch.uint8) for value in facts.values()])
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, own, group=group)
    same = torch.stack([(each == gathered[0]).all(dim=1) for each in gathered]).all(dim=0)
    if different := [name for name, equal in zip(facts, same.tolist(), strict=True) if not equal]:
        raise ValueError(
            f"the processes of one video differ in {', '.join(different)}: call each with the same arguments, and with "
            "a generator of the same seed"
        )


def weight_sample(model: nn.Module) -> Tensor:
    """A few values of each parameter that is in memory, on the CPU: other weights have others."""
    own = [_some_values(each.detach()) for each in model.parameters() if not each.is_meta]
    return torch.cat(own).cpu() if own else torch.zeros(0)


def _some_values(weight: Tensor) -> Tensor:
    """A few along the last dimension; no more is copied, in whatever order the weight lies in memory."""
    row = weight[(0,) * (weight.ndim - 1)] if weight.ndim else weight[None]
    return row[:_SAMPLED].float()


def lora_strengths(model: nn.Module) -> list[Any]:
    """How strongly each LoRA acts in each layer, and which of them do: peft keeps that beside the weights."""
    return [
        [sorted(layer.scaling.items()), list(layer.active_adapters), layer.disable_adapters]
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer) and hasattr(layer, "scaling")
    ]


def digest_of(value: Any) -> bytes:
    """A digest of tensors, arrays, pictures, numbers and text, in sequences, mappings and dataclasses; of other
    objects only their kind counts."""
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.digest()[:_BYTES]


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Image):
        digest.update(value.mode.encode())
        _add(digest, np.asarray(value))
    elif isinstance(value, Mapping):
        _add(digest, list(value.items()))
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)}[".encode())
        for each in value:
            _add(digest, each)
    elif is_dataclass(value) and not isinstance(value, type):
        _add(digest, vars(value))
    elif value is None or isinstance(value, (str, int, float, torch.dtype)):
        digest.update(f"{value!r};".encode())
    else:  # the text of an object may name its place in memory
        digest.update(f"{type(value).__qualname__};".encode())
