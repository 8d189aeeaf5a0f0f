"""A clip of a prompt and a seed, as studies and benchmarks measure it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from latentshift.pipeline import LatentShiftPipeline
from latentshift.video import as_clip


def seeded_clip(
    pipeline: LatentShiftPipeline, prompt: str, seed: int, *, steps: int, guidance: float, **options: Any
) -> np.ndarray:
    """One video, uint8 RGB (F, H, W, 3).

    Args:
        pipeline: that makes it.
        prompt: of it.
        seed: of its generator, on the CPU.
        steps: of the sampler.
        guidance: scale.
        **options: further ones of the call.
    """
    (video,) = pipeline(
        prompt,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
        return_dict=False,
        **options,
    )[0]
    return as_clip(video)
