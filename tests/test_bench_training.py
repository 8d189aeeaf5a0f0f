"""The loop that ``latentshift bench train`` measures ours beside."""

from __future__ import annotations

import torch

from latentshift.benchmarks import training
from latentshift.shift import temporal_shift


def test_both_loops_take_steps_and_are_timed() -> None:
    measured = training.bench_training(rounds=1)
    assert measured.rate > 0 and measured.peer > 0


def test_the_plain_loops_shift_is_the_shift() -> None:
    hidden = torch.randn(2 * training._FRAMES, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    (shifted,) = training._shifted(torch.nn.Identity(), (hidden,))
    assert torch.equal(shifted, temporal_shift(hidden, training._FRAMES))
