"""Sampling that starts from a video instead of noise: latents noised to a later step, as by SDEdit (Meng et al. 2022).

The first steps are left out, by the strength's rule of diffusers' img2img. Knows no network and no pictures. Legend of
shapes: B videos, F frames, C channels, h × w.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.shared_noise import unmix_noise
from latentshift.settings import check_strength, steps_kept

# Multistep methods that take their order from the number of the step, as if there had been others before it.
_COUNTS_FROM_FIRST_TIMESTEP = ("LMSDiscreteScheduler", "PNDMScheduler")


def check_start(scheduler: Any) -> None:
    """Refuse a scheduler that can't begin in the middle of its timesteps.

    Raises:
        ValueError: for PNDM with its Runge-Kutta steps.
    """
    if type(scheduler).__name__ == "PNDMScheduler" and not scheduler.config.skip_prk_steps:
        raise ValueError(
            "PNDMScheduler takes its Runge-Kutta steps first, and can't begin after them: set skip_prk_steps, or "
            "choose another sampler"
        )


def skip_steps(scheduler: Any, strength: float) -> int:
    """Leave out a scheduler's first steps: of n, all but the last int(n · strength).

    Args:
        scheduler: whose timesteps are set; those of multistep methods that count from the first one are shortened.
        strength: in [0, 1]; 1 leaves out none, 0 all.

    Returns:
        The number of the timestep, of ``scheduler.timesteps``, that sampling begins at; their count if there is none.

    Raises:
        ValueError: if a strength above 0 leaves no step.
    """
    check_strength(strength, "strength")
    kind, given = type(scheduler).__name__, scheduler.timesteps
    distinct = torch.cat([given[:1], given[2:]]) if kind == "PNDMScheduler" else given  # its second is there twice
    total = -(-len(distinct) // scheduler.order)  # second-order methods have two timesteps a step
    kept = steps_kept(total, strength)
    if kept == 0:
        return len(given)
    first = (total - kept) * scheduler.order
    if kind not in _COUNTS_FROM_FIRST_TIMESTEP:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        return first
    if kind == "PNDMScheduler":
        rest = distinct[first:]
        scheduler.timesteps = torch.cat([rest[:2], rest[1:]])
    else:
        scheduler.timesteps, scheduler.sigmas = given[first:], scheduler.sigmas[first:]
    return 0


def noised_start(scheduler: Any, first: int, clean: Tensor, noise: Tensor, noise_share: float) -> Tensor:
    """The latents that sampling begins with.

    Args:
        scheduler: from :func:`skip_steps`.
        first: likewise.
        clean: (B, F, C, h, w), scaled, of the videos.
        noise: independent, standard normal, of that shape.
        noise_share: a ≥ 0 of the noise that frames share.

    Returns:
        The same shape: α L⁻¹ x_0 + σ η, for a scheduler that works on independent noise
        (:func:`latentshift.diffusion.sampling.sample`); and without a step L⁻¹ x_0.
    """
    start = unmix_noise(clean, noise_share)
    if first == len(scheduler.timesteps):
        return start
    timestep: Tensor = scheduler.timesteps[first : first + 1]
    noised: Tensor = scheduler.add_noise(start, noise, timestep)
    return noised
