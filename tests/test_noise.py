"""Noise in training: Eq. 4, targets, and the weight of a timestep."""

from __future__ import annotations

import pytest
import torch

from latentshift.diffusion.noise import add_noise, paper_scheduler, timestep_weight


def test_noising_and_targets_are_equation_4() -> None:
    for kind in ("epsilon", "v_prediction", "sample"):
        scheduler = paper_scheduler(kind)
        clean, noise = torch.randn(5, 2, 3, 4, 4), torch.randn(5, 2, 3, 4, 4)
        steps = torch.tensor([0, 10, 500, 900, 999])
        alpha = scheduler.alphas_cumprod[steps].sqrt().reshape(5, 1, 1, 1, 1)
        sigma = (1 - scheduler.alphas_cumprod[steps]).sqrt().reshape(5, 1, 1, 1, 1)
        noisy, target = add_noise(scheduler, clean, noise, steps)
        torch.testing.assert_close(noisy, alpha * clean + sigma * noise)
        wanted = {"epsilon": noise, "v_prediction": alpha * noise - sigma * clean, "sample": clean}[kind]
        torch.testing.assert_close(target, wanted)
    with pytest.raises(ValueError, match="prediction types"):
        add_noise(paper_scheduler("flow_prediction"), clean, noise, steps)


def test_a_weight_means_the_same_for_the_picture_whatever_is_predicted() -> None:
    clean, noise = torch.randn(6, 3, 4, 4, dtype=torch.float64), torch.randn(6, 3, 4, 4, dtype=torch.float64)
    wrong = clean + 0.1 * torch.randn_like(clean)  # what a network takes the picture for
    steps = torch.tensor([0, 10, 300, 500, 900, 999])
    of_picture = {
        "min_snr": lambda snr: snr.clamp(max=2.0),
        "debiased": torch.sqrt,
        "edm": lambda snr: (1 / snr + 0.25**2) / (1 / snr * 0.25**2),  # λ(σ) with σ² = 1 / SNR
    }
    for kind in ("epsilon", "v_prediction", "sample"):
        scheduler = paper_scheduler(kind)
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        noisy, target = add_noise(scheduler, clean, noise, steps)
        alpha = scheduler.alphas_cumprod[steps].sqrt().reshape(-1, 1, 1, 1)
        sigma = (1 - alpha.square()).sqrt()
        noise_then = (noisy - alpha * wrong) / sigma
        velocity_then = alpha * noise_then - sigma * wrong
        predicted = {"epsilon": noise_then, "v_prediction": velocity_then, "sample": wrong}[kind]
        error = (predicted - target).square().flatten(1).mean(dim=1)
        assert torch.equal(timestep_weight(scheduler, steps, "uniform", 2.0), torch.ones(6, dtype=torch.float64))
        for weighting, weight in of_picture.items():
            snr = (alpha / sigma).flatten().square()
            expected = weight(snr) * (wrong - clean).square().flatten(1).mean(dim=1)
            torch.testing.assert_close(timestep_weight(scheduler, steps, weighting, 2.0, 0.25) * error, expected)
