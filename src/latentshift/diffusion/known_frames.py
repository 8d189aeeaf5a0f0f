"""Frames of a video that are known before sampling: keyframes, or the end of the clip that it goes on from.

In each step the prediction for a known frame is replaced by the one that its clean latents x_0 and its noisy ones
x_t = α_t x_0 + σ_t ε imply. Any sampler then keeps its latents at α_t x_0 + σ_t ε down to x_0: the noise ε is the
video's own, fresh where a sampler draws fresh noise, and mixed between frames where they share it. No noise level has
to be guessed between the steps of a scheduler.

The denoiser sees a known frame in one of two ways: as noisy as the others, which is the replacement method (Ho et al.
2022, "Video Diffusion Models", Sec. 3.1; Lugmayr et al. 2022, "RePaint", Eq. 8); or clean, at a timestep of its own, 0,
which frames that are folded into the batch have anyway, so that it is seen from the first step on.

Knows no network and no pictures. Legend of shapes: B videos, F frames, C channels, h × w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.schedulers import clipping_setting
from latentshift.diffusion.shared_noise import mix_noise, unmix_noise


@dataclass(frozen=True)
class KnownFrames:
    """The known frames of B videos, the same in each.

    Attributes:
        latents: (B, F, C, h, w) clean and scaled; anything where a frame is not known.
        strengths: F numbers in [0, 1]: the share of the steps, from the first on, in which the frame is held; 0 where
            it is not known. At 1 its latents are in the result as they are.
        clean: whether the denoiser sees them clean.
        first_step: number of the timestep that sampling begins at.
    """

    latents: Tensor
    strengths: Sequence[float]
    clean: bool = False
    first_step: int = 0

    def over(self, clean: Tensor) -> Tensor:
        """Clean latents of videos, (B, F, C, h, w), with those of the known frames in their place."""
        return _chosen([strength > 0 for strength in self.strengths], self.latents, clean)

    def noised(self, scheduler: Any, latents: Tensor, noise_share: float) -> Tensor:
        """What sampling starts from: x_0 noised to the first noise level in known frames, and noise in the others.

        Args:
            scheduler: whose timesteps are set.
            latents: (B, F, C, h, w), standard normal times the scheduler's ``init_noise_sigma``, independent.
            noise_share: of :func:`latentshift.diffusion.sampling.sample`.

        Returns:
            The same shape, for a scheduler that works on independent noise.
        """
        mixed = mix_noise(latents, noise_share)
        first = scheduler.timesteps[:1].expand(len(latents))
        start = scheduler.add_noise(self.latents, mixed / scheduler.init_noise_sigma, first)
        known = [strength > 0 for strength in self.strengths]
        return unmix_noise(_chosen(known, start, mixed), noise_share)

    def shown(self, scheduler: Any, step: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What the denoiser sees in one step, and at which timestep.

        Args:
            scheduler: whose timesteps are set.
            step: number of the timestep.
            inputs: (B, F, C, h, w) noisy and scaled for it.

        Returns:
            The same shape; and the timestep, or (1, F) of each frame.
        """
        timestep = scheduler.timesteps[step]
        if not self.clean:
            return inputs, timestep
        held = self._held(scheduler, step)
        least, scale = _clean_level(scheduler)
        of_frames = torch.where(torch.tensor(held, device=timestep.device), timestep.new_tensor(least), timestep)
        return _chosen(held, self.latents / scale, inputs), of_frames[None]

    def replaced(self, scheduler: Any, step: int, inputs: Tensor, predicted: Tensor) -> Tensor:
        """The predictions of one step, with those of the frames that are held replaced.

        Args:
            scheduler: whose timesteps are set.
            step: number of the timestep.
            inputs: (B, F, C, h, w) of the denoiser.
            predicted: (B, F, C, h, w) by it.
        """
        return _chosen(self._held(scheduler, step), _implied(scheduler, step, inputs, self.latents), predicted)

    def finished(self, latents: Tensor) -> Tensor:
        """The result, where frames that were held to the end are as they are known, without a solver's rounding."""
        return _chosen([strength == 1 for strength in self.strengths], self.latents, latents)

    def _held(self, scheduler: Any, step: int) -> list[bool]:
        """Which frames are held in a step."""
        total = len(scheduler.timesteps) - self.first_step
        done = step - self.first_step
        return [strength > 0 and done < max(1, round(strength * total)) for strength in self.strengths]


def check_known(scheduler: Any) -> None:
    """Refuse a scheduler that clips predicted latents: those of a known frame are not to be changed.

    Raises:
        ValueError: naming the setting.
    """
    if setting := clipping_setting(scheduler):
        raise ValueError(
            f"the scheduler clips the predicted latents ({setting}), and those of known frames are not to be changed; "
            f"set {setting} to false in the scheduler's configuration"
        )


def _chosen(held: Sequence[bool], known: Tensor, others: Tensor) -> Tensor:
    """``known`` in the frames that are held, and ``others``."""
    return torch.where(torch.tensor(held, device=others.device)[:, None, None, None], known.to(others), others)


def _implied(scheduler: Any, step: int, inputs: Tensor, clean: Tensor) -> Tensor:
    """What the scheduler expects of a denoiser that knows x_0: noise, velocity, flow or x_0."""
    alpha, sigma, scale, kind = _parameters(scheduler, step)
    clean = clean / scale
    if kind == "sample":
        return clean
    if kind == "epsilon":
        return (inputs - alpha * clean) / sigma
    if kind == "flow_prediction":  # ε - x_0
        return (inputs - (alpha + sigma) * clean) / sigma
    velocity = (alpha * inputs - clean) / sigma  # α ε - σ x_0, with α² + σ² = 1
    return -velocity if kind == "negative velocity" else velocity


def _clean_level(scheduler: Any) -> tuple[float, float]:
    """The timestep of latents without noise, and what they are divided by for the denoiser."""
    if hasattr(scheduler, "precondition_noise"):  # EDM's timesteps are 1/4 ln σ
        return float(scheduler.precondition_noise(scheduler.config.sigma_min)), float(scheduler.config.sigma_data)
    if scheduler.config.get("timestep_type") == "continuous":
        return float(scheduler.timesteps[-1]), 1.0
    return 0.0, 1.0


def _parameters(scheduler: Any, step: int) -> tuple[float, float, float, str]:
    """(α, σ, s, kind) of a step, whose denoiser is given α x_0 / s + σ ε and predicts ``kind`` of x_0 / s and ε."""
    kind = scheduler.config.prediction_type
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:  # it goes by ᾱ of its timesteps
        signal = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])])
        return signal**0.5, (1 - signal) ** 0.5, 1.0, kind
    sigma, scale = float(sigmas[step]), 1.0
    if step % 2 and hasattr(scheduler, "sigmas_interpol"):  # KDPM2's second stages lie between two noise levels
        sigma = float(scheduler.sigmas_interpol[step - hasattr(scheduler, "sigmas_up")])  # the ancestral one: before it
    if kind == "flow_prediction" or scheduler.config.get("use_flow_sigmas"):
        return 1 - sigma, sigma, scale, kind
    if hasattr(scheduler, "precondition_outputs"):
        # EDM's scale their inputs to unit variance at a spread s of the data (Karras et al. 2022, Table 1). What their
        # network predicts is a velocity, whose sign "epsilon" turns round.
        scale = float(scheduler.config.sigma_data)
        kind = "negative velocity" if kind == "epsilon" else kind
    ratio = sigma / scale  # σ / α
    alpha = (1 + ratio**2) ** -0.5
    return alpha, ratio * alpha, scale, kind
