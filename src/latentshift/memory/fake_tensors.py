"""The only use of torch's private modules in the package.

Torch documents both classes and has no public name for either. The public meta device can't stand in for fake tensors:
it takes no part in autocast, so the copies in lower precision, a good part of a step's memory, would not be counted.
"""

from __future__ import annotations

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode", "fake_tensors"]


def fake_tensors() -> FakeTensorMode:
    """Inside, operations make tensors with shapes, dtypes and devices, but without values or memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)
