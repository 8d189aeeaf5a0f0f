"""Classifier-free guidance for videos (Ho & Salimans 2021).

Legend of shapes: B videos, … whatever a video is (F, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentshift.diffusion.condition import TextCondition

# Of a timestep for all, or (1, F) for each frame.
Denoiser = Callable[[Tensor, Tensor, TextCondition], Tensor]  # (latents (B, …), timestep, text of B) -> prediction
PromptedDenoiser = Callable[[Tensor, Tensor], Tensor]  # (latents (B, …), timestep) -> prediction


def with_guidance(
    denoiser: Denoiser,
    text: TextCondition,
    negative: TextCondition,
    scale: float,
    videos_per_call: int | None = None,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
) -> PromptedDenoiser:
    """A denoiser with guidance towards ``text`` and away from ``negative``: g = n + s (p - n).

    Args:
        denoiser: predicts for videos with one text each.
        text: of B videos.
        negative: likewise, of the empty or a negative prompt.
        scale: s; at 1 the negative has no effect and is not computed.
        videos_per_call: videos per call of the denoiser (each twice with guidance); none: all.
        rescale: φ in [0, 1]: so much of g is replaced by g · std(p) / std(g), with standard deviations over all frames
            of a video (Lin et al. 2024, Sec. 3.4), so that frames are not scaled apart.
        interval: (low, high): guidance at timesteps low ≤ t ≤ high alone, and as with s = 1 at others (Kynkäänniemi et
            al. 2024); None: at all.
    """

    chunk = videos_per_call or len(text)
    # Once for all steps, which so have the very same tensors.
    alone = text.split(chunk)
    paired = alone if scale == 1.0 else list(map(TextCondition.cat, zip(negative.split(chunk), alone, strict=True)))

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        # Known frames have a timestep of their own, 0.
        guided_now = scale != 1.0 and (interval is None or interval[0] <= float(timestep.max()) <= interval[1])
        predictions = []
        for some, condition in zip(latents.split(chunk), paired if guided_now else alone, strict=True):
            if not guided_now:
                predictions.append(denoiser(some, timestep, condition))
                continue
            both = denoiser(torch.cat([some, some]), timestep, condition)
            uncond, cond = both.chunk(2)
            guided = uncond + scale * (cond - uncond)
            if rescale > 0:
                # Lin et al. 2024, Eqs. 15 and 16
                guided = rescale * (guided * (_deviation(cond) / _deviation(guided))) + (1 - rescale) * guided
            predictions.append(guided)
        return torch.cat(predictions)

    return predict


def check_rescale(rescale: float, scale: float) -> None:
    """Refuse a rescaling of guidance that is outside of its range, or has nothing to rescale.

    Args:
        rescale: φ.
        scale: s of guidance; 1 of a guidance-distilled U-Net.

    Raises:
        ValueError: in the words of a pipeline's arguments.
    """
    if not 0 <= rescale <= 1:
        raise ValueError(f"guidance_rescale must be 0 to 1, not {rescale}")
    if rescale > 0 and scale == 1:
        raise ValueError(
            "guidance_rescale has no effect without guidance, with guidance_scale 1 or a guidance-distilled U-Net"
        )


def _deviation(x: Tensor) -> Tensor:
    """The standard deviation of each video, (B, 1, …)."""
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True)
