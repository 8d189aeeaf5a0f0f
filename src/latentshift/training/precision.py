"""The precision of a run's arithmetic, and its attention kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentshift.models.precision import has_bf16

Precision = Literal["fp32", "bf16", "fp16"]


def attention_backend(choice: str, device: torch.device) -> AbstractContextManager[None]:
    """The kernels of ``compute.attention``: to be entered around a step on a device, forward and backward."""
    math = choice == "math" or (choice == "math_on_cpu" and device.type == "cpu")
    return sdpa_kernel(SDPBackend.MATH) if math else nullcontext()


def encoding_dtype(precision: Precision) -> torch.dtype:
    """The dtype in which clips are encoded; never float16, which public autoencoders overflow (SDXL's does)."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast_dtype(precision: Precision) -> torch.dtype:
    """The dtype of autocast's matrix products."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def is_slow_in_bf16(device: torch.device) -> bool:
    """Whether a device emulates bfloat16: a CPU without instructions for it, where float32 takes less time."""
    return device.type == "cpu" and not has_bf16(device)
