"""The device that ``latentshift evaluate`` chooses."""

from __future__ import annotations

import pytest
import torch
from accelerate import PartialState

from latentshift.cli.evaluate.common import workers


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate keeps one state a process."""
    monkeypatch.setattr(PartialState, "_shared_state", {})


def test_auto_is_cuda_or_the_cpu_whatever_accelerate_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")  # for a machine with an accelerator of another kind
    with workers("auto", 60.0) as (worker, device):
        assert worker.is_first and device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="the device 'cuda:99' cannot be used"), workers("cuda:99", 60.0):
        pass
