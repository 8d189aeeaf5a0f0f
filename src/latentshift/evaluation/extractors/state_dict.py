"""Read the tensors of an extractor's file, never other objects, and put them into a network that has no memory yet."""

from __future__ import annotations

import io
import pickle
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from latentshift.evaluation.extractors.cache import CachedExtractor

M = TypeVar("M", bound=nn.Module)


def read_state_dict(cached: CachedExtractor, name: str) -> dict[str, Tensor]:
    """The tensors of one file, in float32 where they are of a floating type.

    Args:
        cached: the extractor.
        name: of its file: ``.safetensors``, or a pickled state dict, of which tensors alone are read.

    Raises:
        ValueError: if it was changed since it was added, is damaged, or holds something else than tensors.
    """
    content = cached.read(name)
    try:
        if name.endswith(".safetensors"):
            state = load_safetensors(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{cached.folder / name} is no file of tensors that can be read ({type(error).__name__})"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"{cached.folder / name} holds something else than a state dict")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def load_state(network: M, state: dict[str, Tensor], cached: CachedExtractor) -> M:
    """Put a state dict into a network on the meta device; it is in evaluation mode and needs no gradients then.

    Counters of batch norms, which evaluation does not read, may be missing.

    Args:
        network: on the meta device, without buffers that are not in its state dict.
        state: CPU tensors.
        cached: for the message.

    Raises:
        ValueError: if tensors are missing, unknown or of other shapes.
    """
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    state = {**{name: torch.zeros((), dtype=torch.long) for name in counters}, **state}
    check_state(expected, state, cached)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def check_state(expected: dict[str, Tensor], state: dict[str, Tensor], cached: CachedExtractor) -> None:
    """Refuse a state dict that has not exactly the names and shapes of another.

    Raises:
        ValueError: with one difference.
    """
    differing = [
        name
        for name in sorted({*expected, *state})
        if name not in expected or name not in state or expected[name].shape != state[name].shape
    ]
    if differing:
        name = differing[0]
        has, wants = (f"{tuple(each[name].shape)}" if name in each else "nothing" for each in (state, expected))
        raise ValueError(
            f"the weights of {cached.folder} are not those of {cached.known.name}: {len(differing):,} tensors differ, "
            f"first {name}, which is {has} and should be {wants}"
        )
