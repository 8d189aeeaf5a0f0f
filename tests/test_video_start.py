"""Sampling that starts from a video: every sampler begins at the right noise level, and goes down from there."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from latentshift.diffusion.known_frames import KnownFrames
from latentshift.diffusion.sampling import sample
from latentshift.diffusion.shared_noise import mix_noise
from latentshift.diffusion.video_start import check_start, noised_start, skip_steps
from test_known_frames import CASES, ENDS_NOISY, HELD_BY_SAMPLING_ALONE, scheduler_of

STEPS = 10
SHAPE = (2, 2, 1, 64, 64)  # B, F, C, h, w
CLEAN, NOISE = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in (21, 22))
KINDS = [kind for kind, prediction in CASES if prediction == "epsilon"]


def make(kind: str) -> Any:
    scheduler = scheduler_of(kind, "epsilon", **({"skip_prk_steps": True} if kind == "PNDM" else {}))
    scheduler.set_timesteps(STEPS)
    return scheduler


def run(scheduler: Any, strength: float, noise_share: float = 0.0) -> tuple[Tensor, list[tuple[Tensor, float]]]:
    """From CLEAN, with a denoiser that knows it; and the denoiser's inputs with their timesteps."""
    inputs: list[tuple[Tensor, float]] = []

    def denoiser(noisy: Tensor, timestep: Tensor) -> Tensor:
        inputs.append((noisy, float(timestep)))
        return noisy

    first = skip_steps(scheduler, strength)
    start = noised_start(scheduler, first, CLEAN, NOISE, noise_share)
    known = KnownFrames(CLEAN, (HELD_BY_SAMPLING_ALONE,) * SHAPE[1])
    generators = [torch.Generator().manual_seed(seed) for seed in range(SHAPE[0])]
    return sample(
        denoiser, scheduler, start, generators, noise_share=noise_share, known=known, first_step=first
    ), inputs


def signal_at(scheduler: Any, timestep: float) -> float:
    """α of a timestep, which may lie between two whole ones."""
    if hasattr(scheduler, "precondition_noise"):  # EDM: timesteps are 1/4 ln σ, inputs of unit variance
        return (scheduler.config.sigma_data**2 + math.exp(4 * timestep) ** 2) ** -0.5
    below = min(int(timestep), 998)
    near = scheduler.alphas_cumprod[below : below + 2].sqrt().tolist()
    return near[0] + (timestep - below) * (near[1] - near[0])


@pytest.mark.parametrize("noise_share", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_goes_from_the_right_noise_level_down_to_the_video(kind: str, noise_share: float) -> None:
    scheduler = make(kind)
    result, inputs = run(scheduler, 0.6, noise_share)
    torch.testing.assert_close(result, CLEAN, atol=0.25 if kind in ENDS_NOISY else 1e-3, rtol=0)
    assert len(inputs) == {1: 6, 2: 11}[scheduler.order] + (kind == "PNDM")
    assert all(later < earlier + 1 for (_, earlier), (_, later) in pairwise(inputs))
    for noisy, timestep in inputs:
        signal = float((noisy.flatten() @ CLEAN.flatten()) / (CLEAN.flatten() @ CLEAN.flatten()))
        assert signal == pytest.approx(signal_at(scheduler, timestep), abs=0.03), timestep


def test_the_noise_on_the_video_is_the_noise_that_frames_share() -> None:
    scheduler = make("DDIM")
    first = skip_steps(scheduler, 0.5)
    start = mix_noise(noised_start(scheduler, first, CLEAN, NOISE, 2.0), 2.0)
    signal = float(scheduler.alphas_cumprod[int(scheduler.timesteps[first])])
    expected = signal**0.5 * CLEAN + (1 - signal) ** 0.5 * mix_noise(NOISE, 2.0)
    torch.testing.assert_close(start, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["DDPM", "HeunDiscrete", "LMSDiscrete", "PNDM"])
def test_all_steps_and_none(kind: str) -> None:
    whole = make(kind)
    given = whole.timesteps
    assert skip_steps(whole, 1.0) == 0 and torch.equal(whole.timesteps, given)
    none = make(kind)
    assert skip_steps(none, 0.0) == len(none.timesteps)
    assert torch.equal(noised_start(none, len(none.timesteps), CLEAN, NOISE, 0.0), CLEAN)
    scheduler = make(kind)
    _, inputs = run(scheduler, 0.1)  # one step of ten
    assert len(inputs) == 1


def test_what_cannot_begin_in_the_middle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"strength 0\.05 leaves none of 10 steps: give 0, or 0\.1 or more"):
        skip_steps(make("DDIM"), 0.05)
    with pytest.raises(ValueError, match=r"strength must be a number from 0 to 1, not 1\.5"):
        skip_steps(make("DDIM"), 1.5)
    with pytest.raises(ValueError, match="Runge-Kutta steps first"):
        check_start(scheduler_of("PNDM", "epsilon", skip_prk_steps=False))
