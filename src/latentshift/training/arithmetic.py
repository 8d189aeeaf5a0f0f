"""How a recipe's arithmetic is done: with which kernels, in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentshift.training.recipe import RunSettings


def attention_backend(recipe: RunSettings, device: torch.device) -> AbstractContextManager[None]:
    """To be entered around a step on a device, forward and backward."""
    chosen = recipe.compute.attention
    math = chosen == "math" or (chosen == "math_on_cpu" and device.type == "cpu")
    return sdpa_kernel(SDPBackend.MATH) if math else nullcontext()


def encoding_dtype(recipe: RunSettings) -> torch.dtype:
    """In which clips are encoded; never float16, which public autoencoders overflow (SDXL's does)."""
    return torch.bfloat16 if recipe.compute.precision == "bf16" else torch.float32


def autocast_dtype(recipe: RunSettings) -> torch.dtype:
    """In which matrices are multiplied."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.compute.precision]


def is_slow_in_bf16(device: torch.device) -> bool:
    """Whether a device has to spell bfloat16 out: x86 before AVX-512, where it takes many times float32's time."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
