"""Noise that the frames of a video share: the mixed noise of "Preserve Your Own Correlation" (Ge et al. 2023).

ε_f = √(a²/(1+a²)) ε_shared + √(1/(1+a²)) ε_f′, with one a ≥ 0, the *noise share*. Each ε_f is standard normal, and over
F frames the covariance is Σ = h² 11ᵀ + s² I with h² = a²/(1+a²) and s² = 1/(1+a²). The same distribution comes from F
independent draws η as ε = L η, with the symmetric square root of Σ:

    L = s I + (r - s)/F 11ᵀ    with r = √(s² + F h²),    L⁻¹ = 1/s I + (1/r - 1/s)/F 11ᵀ.

L multiplies the mean of the frames by r and what differs from it by s. It treats all frames alike, and is 1 for a
single frame or a = 0. Knows no network and no scheduler. Legend of shapes: B videos, F frames, C channels, h × w.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor

_FRAMES = 1  # their dimension


def mix_noise(independent: Tensor, noise_share: float) -> Tensor:
    """L η: noise that frames share, from independent noise; and what else lives in the space of either.

    Args:
        independent: η, (B, F, C, h, w).
        noise_share: a ≥ 0.

    Returns:
        The same shape and dtype, rounded once; ``independent`` itself if there is one frame or a is 0. A video's
        values are the same bits whatever the others of the batch.
    """
    frames = independent.shape[_FRAMES]
    own, mean = _scales(noise_share, frames)
    return _scaled(independent, own, mean) if noise_share > 0 and frames > 1 else independent


def unmix_noise(shared: Tensor, noise_share: float) -> Tensor:
    """L⁻¹ ε, the inverse of :func:`mix_noise`, with the same arguments."""
    frames = shared.shape[_FRAMES]
    own, mean = _scales(noise_share, frames)
    return _scaled(shared, 1 / own, 1 / mean) if noise_share > 0 and frames > 1 else shared


def _scales(noise_share: float, frames: int) -> tuple[float, float]:
    """The factors s, of what differs between frames, and r, of their mean."""
    own_variance = 1 / (1 + noise_share**2)
    return math.sqrt(own_variance), math.sqrt(own_variance + frames * (1 - own_variance))


def _scaled(values: Tensor, own: float, mean: float) -> Tensor:
    # In half precision a sum of frames loses what they share: ten times the error of rounding once, at the end
    precise = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    middle = _mean(precise)
    differing = precise - middle
    differing = differing - _mean(differing)  # what rounding left of the mean, which 1 / s would enlarge
    return (own * differing + mean * middle).to(values.dtype)


def _mean(values: Tensor) -> Tensor:
    """Of the frames, which are added one by one: a reduction may add in another order in a larger batch."""
    return reduce(torch.add, values.unbind(_FRAMES)).unsqueeze(_FRAMES) / values.shape[_FRAMES]
