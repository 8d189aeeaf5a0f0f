"""Samplers: their timesteps, and where they arrive with a perfect prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.sampler_names import SAMPLERS
from latentshift.diffusion.samplers import make_sampler
from tiny_pipelines import seeds


def test_one_hundred_steps_run_evenly_from_the_last_to_the_first() -> None:
    scheduler = paper_scheduler()
    scheduler.set_timesteps(100)
    steps = scheduler.timesteps.tolist()
    assert len(steps) == 100 and steps[0] == 999 and steps[-1] == 0
    assert set(np.diff(steps)) <= {-10, -11}
    betas = np.linspace(8.5e-4**0.5, 1.2e-2**0.5, 1000) ** 2
    np.testing.assert_allclose(scheduler.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_sampler_denoises_a_perfect_prediction(sampler: str, prediction: str) -> None:
    """With the true noise known, every sampler has to arrive at the clean latents."""
    from latentshift.diffusion.sampling import sample

    scheduler = make_sampler(sampler, paper_scheduler(prediction))
    scheduler.set_timesteps(25)
    clean = torch.full((1, 2, 4, 4, 4), 0.7)
    alphas = paper_scheduler().alphas_cumprod

    def oracle(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        # Euler's timesteps may lie between two of training's: interpolate as it does.
        log_snr = (alphas / (1 - alphas)).log()
        low = int(float(timestep))
        share = float(timestep) - low
        snr = log_snr[low] + share * (log_snr[min(low + 1, 999)] - log_snr[low])
        alpha, sigma = torch.sigmoid(snr).sqrt(), torch.sigmoid(-snr).sqrt()
        noise = (noisy - alpha * clean) / sigma
        return noise if prediction == "epsilon" else alpha * noise - sigma * clean

    start = torch.randn(clean.shape, generator=seeds(0)[0]) * scheduler.init_noise_sigma
    result = sample(oracle, scheduler, start, seeds(1))
    torch.testing.assert_close(result, clean, atol=0.1, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_ddim_steps_to_the_noise_level_of_the_next_timestep(steps: int) -> None:
    scheduler = make_sampler("ddim", paper_scheduler())
    scheduler.set_timesteps(steps)
    alphas = scheduler.alphas_cumprod.double()
    clean = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    noise = torch.full_like(clean, -1.3)
    for now, after in zip(scheduler.timesteps, [*scheduler.timesteps[1:], None], strict=True):
        noisy = alphas[now].sqrt() * clean + (1 - alphas[now]).sqrt() * noise
        alpha = torch.tensor(1.0, dtype=torch.float64) if after is None else alphas[after]
        expected = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        torch.testing.assert_close(scheduler.step(noise, now, noisy).prev_sample, expected, atol=2e-3, rtol=0)
