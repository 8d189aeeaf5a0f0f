"""Which dtype a device calculates fastest in at float32's range: what ``--dtype auto`` means."""

from __future__ import annotations

import torch


def has_bf16(device: torch.device | str) -> bool:
    """Whether a device is known to have instructions for bfloat16, which torch emulates elsewhere, at a loss.

    An x86 CPU with AVX512-BF16 (AMX comes with it), unless ``ATEN_CPU_CAPABILITY`` keeps torch below AVX-512; a CUDA
    GPU from compute capability 8.0 on, and AMD's. Of others it is not known.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return torch.cpu._is_avx512_bf16_supported()


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 if the device has instructions for it; else float16 on CUDA, and float32 elsewhere."""
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32
