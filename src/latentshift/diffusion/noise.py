"""The forward process in training: noisy latents, the target to predict, the weight of a timestep (Eq. 1, 2, 4, 5).

The schedule itself is diffusers' (``scaled_linear`` is the paper's "quad", Table 6). Knows no network.
Legend of shapes: B videos, … whatever follows (F, C, H, W).
"""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from latentshift.settings import TRAIN_TIMESTEPS, Weighting

BETA_START = 8.5e-4
BETA_END = 1.2e-2
_MIN_SIGNAL = 2.0**-24  # of alphas_cumprod, where samplers need a divisor at zero terminal SNR
_UNKNOWN_PREDICTION = 'training knows the prediction types "epsilon", "v_prediction" and "sample", not {!r}'


def paper_scheduler(prediction_type: str = "epsilon", *, zero_terminal_snr: bool = False) -> DDPMScheduler:
    """The paper's schedule and sampler: T = 1000, "quad" β from 8.5e-4 to 1.2e-2, DDPM with a fixed variance.

    Respaced timesteps run evenly from the last to the first, both included.

    Args:
        prediction_type: what the U-Net predicts.
        zero_terminal_snr: rescale β so that nothing of the clean latents is left at the last timestep (Lin et al. 2024,
            Algorithm 1); the prediction of noise can't be learned there.
    """
    return DDPMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        clip_sample=False,
        prediction_type=prediction_type,
        timestep_spacing="linspace",
        rescale_betas_zero_snr=zero_terminal_snr,
    )


def add_noise(scheduler: DDPMScheduler, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy latents and the target of the prediction.

    Args:
        latents: (B, …) clean, scaled to about unit variance.
        noise: (B, …) standard normal.
        timesteps: (B,) integers 0 … T-1.

    Returns:
        u_t = α_t u_0 + σ_t ε (Eq. 4), and ε, the velocity α_t ε - σ_t u_0, or u_0, as the scheduler's prediction type
        says ("epsilon", "v_prediction", "sample").

    Raises:
        ValueError: for another prediction type.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noisy, noise
    if kind == "v_prediction":
        return noisy, scheduler.get_velocity(latents, noise, timesteps)
    if kind == "sample":
        return noisy, latents
    raise ValueError(_UNKNOWN_PREDICTION.format(kind))


def clean_prediction(scheduler: DDPMScheduler, noisy: Tensor, predicted: Tensor, timesteps: Tensor) -> Tensor:
    """The clean latents that a prediction stands for: u_0 of :func:`add_noise`, if the prediction is its target.

    Args:
        scheduler: whose prediction type says what is predicted.
        noisy: (B, …), u_t.
        predicted: (B, …), of the U-Net.
        timesteps: (B,) integers 0 … T-1.

    Raises:
        ValueError: for another prediction type than :func:`add_noise` knows; or where noise is predicted and nothing of
            the clean latents is left (zero terminal SNR).
    """
    signal = scheduler.alphas_cumprod.to(noisy)[timesteps].reshape(-1, *[1] * (noisy.ndim - 1))
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return predicted
    if kind == "v_prediction":
        return signal.sqrt() * noisy - (1 - signal).sqrt() * predicted
    if kind != "epsilon":
        raise ValueError(_UNKNOWN_PREDICTION.format(kind))
    if hides_latents(scheduler, timesteps).any():
        raise ValueError("where the latents are noise alone, the prediction of noise says nothing of clean latents")
    return (noisy - (1 - signal).sqrt() * predicted) / signal.sqrt()


def hides_latents(scheduler: DDPMScheduler, timesteps: Tensor) -> Tensor:
    """Whether nothing is left of the clean latents, (B,) bool: the last timestep at zero terminal SNR."""
    return scheduler.alphas_cumprod.to(timesteps.device)[timesteps] <= _MIN_SIGNAL


def signal_to_noise(scheduler: DDPMScheduler, timesteps: Tensor) -> Tensor:
    """α_t² / σ_t², shape (B,); at zero terminal SNR 2^-24, as samplers have it, since it is a divisor."""
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    alphas = alphas.where(alphas > 0, _MIN_SIGNAL)
    return alphas / (1 - alphas)


def timestep_weight(
    scheduler: DDPMScheduler,
    timesteps: Tensor,
    weighting: Weighting,
    gamma: float = 5.0,
    sigma_data: float = 1.0,
) -> Tensor:
    """The weight of the squared error at a timestep, shape (B,).

    ``"uniform"`` is 1, the paper's. For noise prediction ``"min_snr"`` is min(SNR, γ) / SNR (Hang et al. 2023,
    Sec. 3.4): nearly clean timesteps no longer outweigh the rest; ``"debiased"`` is 1 / √SNR (Yu et al. 2023, "Debias
    the Training of Diffusion Models"): the noisiest timesteps, whose noise is easy to predict however wrong the picture
    is, weigh more as well; ``"edm"`` is 1 + 1 / (SNR σ_data²) (Karras et al. 2022, Table 1), with σ_data the spread of
    the clean latents: an error as large as the smaller of that spread and the noise weighs the same at every timestep.
    At σ_data = 1 it is uniform for velocity prediction. For velocity prediction all three are SNR / (SNR + 1) times
    that, for the prediction of the clean latents SNR times: the picture's error then has the same weight.

    Args:
        scheduler: whose schedule and prediction type they are.
        timesteps: (B,), 0 … T-1.
        weighting: one of the four above.
        gamma: γ > 0 of ``"min_snr"``.
        sigma_data: σ_data > 0 of ``"edm"``.
    """
    snr = signal_to_noise(scheduler, timesteps)
    if weighting == "uniform":
        return torch.ones_like(snr)
    if weighting == "edm":
        x0_weight = snr + sigma_data**-2
    else:
        x0_weight = snr.clamp(max=gamma) if weighting == "min_snr" else snr.sqrt()
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return x0_weight
    return x0_weight / (snr + 1 if kind == "v_prediction" else snr)
