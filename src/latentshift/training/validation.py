"""Validation: the error at fixed (clip, timestep, noise) triples, told apart by how noisy they are.

A training loss says little from step to step, since its timesteps and noise are drawn anew; here nothing is.
Legend of shapes: N clips, F frames, C latent channels, h × w.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import torch
from torch import nn

from latentshift.data.dataset import ClipDataset
from latentshift.data.loader import Batch, BatchSpec, Loader
from latentshift.data.sample_order import rng_for
from latentshift.data.worker_pool import WorkerLimits
from latentshift.training.datasets import replaced_clips
from latentshift.training.distributed import split_batch
from latentshift.training.losses import LatentBatch
from latentshift.training.recipe import DataSettings, ValidationSettings

_STREAM = 0x5A11D  # sets its draws apart from those of training


def validation_id(settings: ValidationSettings, digests: Sequence[str]) -> str:
    """A digest of what validation asks, and of which data."""
    asked = settings.model_dump_json(exclude={"every": True, "data": {"__all__": set(DataSettings.changeable())}})
    return hashlib.sha256("\n".join([asked, *digests]).encode()).hexdigest()[:12]


class Validation:
    """Fixed clips, each with a fixed timestep and fixed noise in each band of timesteps.

    Args:
        settings: how many, and in how many bands.
        clips: where they are taken from, in an order of their own.
        num_frames: F.
        seed: of that order and of the noise.
        limits: of reading footage; None to read in this process.
        collated: samples -> what the objective takes, with their own captions.

    Attributes:
        loader: of the clips.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        clips: Sequence[ClipDataset],
        num_frames: int,
        seed: int,
        limits: WorkerLimits | None,
        collated: Callable[[Batch], LatentBatch],
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.loader = Loader(clips, lambda step: BatchSpec(1, num_frames, step - 1), seed + _STREAM, limits=limits)
        self._collated = collated
        self._kept: list[LatentBatch] = []

    def replaced(self) -> list[dict[str, str]]:
        """The clips that turned out to be of no use, for which others were taken, and why."""
        return replaced_clips(self.loader)

    def __call__(self, objective: nn.Module, total_timesteps: int, device: torch.device) -> dict[str, float]:
        """Mean squared error of the prediction, over all triples (``error``) and in each band (``error_0_249``, …)."""
        if not self._kept:
            batches = self.loader.batches()
            self._kept = [self._collated(batch) for batch in islice(batches, self.settings.clips)]
            batches.close()
        bands = self.settings.bands
        edges = [round(band * total_timesteps / bands) for band in range(bands + 1)]
        errors: dict[str, float] = {}
        with torch.no_grad():
            for band, (first, end) in enumerate(pairwise(edges)):
                found = [
                    float(objective(self._triple(number, band, (first + end) // 2, device))["error"])
                    for number in range(len(self._kept))
                ]
                errors[f"error_{first}_{end - 1}"] = float(np.mean(found))
        return {"error": float(np.mean(list(errors.values()))), **errors}

    def _triple(self, number: int, band: int, timestep: int, device: torch.device) -> LatentBatch:
        batch = self._kept[number]
        noise = rng_for(self.seed, _STREAM, number, band).standard_normal(batch.noise.shape, dtype=np.float32)
        fixed = replace(batch, noise=torch.from_numpy(noise), timesteps=torch.tensor([timestep]))
        whole: LatentBatch
        (whole,) = split_batch(fixed, 1, device)
        return whole
