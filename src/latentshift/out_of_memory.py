"""Whether an error means that memory ran out, by its type where possible. Imports nothing heavy."""

from __future__ import annotations

import sys

# Raised as a plain RuntimeError, with no type or code: by torch's CPU allocator (c10/core/impl/alloc_cpu.cpp), and for
# the status with which CUDA's libraries say that they could not allocate their workspace.
_UNTYPED = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or of a GPU ran out."""
    torch = sys.modules.get("torch")  # without it nothing of torch's was raised
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return type(error) is RuntimeError and any(each in str(error) for each in _UNTYPED)
