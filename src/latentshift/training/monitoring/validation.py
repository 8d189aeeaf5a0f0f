"""Validation: the error at fixed (clip, timestep, noise) triples, by bands of timesteps.

A training loss says little from step to step, since its timesteps and noise are drawn anew; here nothing is.
Legend of shapes: N clips, F frames, C latent channels, h × w.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from latentshift.data.loader import Batch, BatchSpec, Loader
from latentshift.data.sample_order import rng_for
from latentshift.progress import progress_bar
from latentshift.training.data.datasets import TrainingData, open_sources, replaced_clips, restore_replaced
from latentshift.training.data.source import DataContext, DataSource
from latentshift.training.distributed import split_batch
from latentshift.training.losses import LatentBatch
from latentshift.training.precision import autocast_dtype
from latentshift.training.recipes.settings import VALIDATION_IS_CLIPS_ONLY, DataSettings, ValidationSettings

_STREAM = 0x5A11D  # sets its draws apart from those of training
_REPLACED = "replaced_in_validation"  # in data.json


def validation_id(settings: ValidationSettings, digests: Sequence[str]) -> str:
    """A digest of validation's settings and of its data: only errors with the same one compare."""
    fixed = settings.model_dump_json(exclude={"every": True, "data": {"__all__": set(DataSettings.changeable())}})
    return hashlib.sha256("\n".join([fixed, *digests]).encode()).hexdigest()[:12]


class Validation:
    """Fixed clips, each with a fixed timestep and fixed noise in each band of timesteps.

    Args:
        settings: how many clips and bands.
        sources: of the clips, which are taken in an order of their own.
        context: of the run.
        held_out: whether the sources are not those of training.

    Attributes:
        id: see :func:`validation_id`.
        loader: of the clips.
    """

    def __init__(
        self, settings: ValidationSettings, sources: Sequence[DataSource], context: DataContext, *, held_out: bool
    ) -> None:
        self.id = validation_id(settings, [each.digest for each in sources])
        self.loader = Loader(
            [each.clips for each in sources],
            lambda step: BatchSpec(1, context.num_frames, step - 1),
            context.seed + _STREAM,
            limits=context.limits,
        )
        self.text_encoded = all(each.text_encoded for each in sources)
        self._settings = settings
        self._seed = context.seed
        self._num_frames = context.num_frames
        self._device = context.device
        self._dtype = autocast_dtype(context.precision)
        self._held_out = sources if held_out else ()
        self._batches: list[LatentBatch] = []

    def describe(self) -> dict[str, Any]:
        """Of each source that is held out what is used and what is not, under ``validation``."""
        sources = [each.describe(self._num_frames, images=self._num_frames == 1) for each in self._held_out]
        return {"validation": sources} if sources else {}

    def summary_lines(self) -> list[str]:
        """The same, a line for each source."""
        return [
            f"validation: {each.summary(self._num_frames, images=self._num_frames == 1)}" for each in self._held_out
        ]

    def issues(self) -> dict[str, list[Any]]:
        """The clips that could not be used, for which others were taken, and why."""
        return {_REPLACED: replaced_clips(self.loader)}

    def measure(
        self, objective: nn.Module, collate: Callable[[Batch], LatentBatch], timesteps: int
    ) -> dict[str, float]:
        """Mean squared error of the prediction, over all triples (``error``) and in each band (``error_0_249``, …).

        Args:
            objective: from a batch to ``error``, on the run's device.
            collate: samples -> batch, with their own captions; called once for each clip of a run.
            timesteps: T of the noise schedule.
        """
        bands, clips = self._settings.bands, self._settings.clips
        edges = [round(band * timesteps / bands) for band in range(bands + 1)]
        errors: dict[str, float] = {}
        with (
            torch.no_grad(),
            torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32),  # as a step
            progress_bar(total=bands * clips, text="validation", unit="clip", leave=False) as bar,
        ):
            if not self._batches:
                with closing(self.loader.batches()) as batches:
                    self._batches = [collate(batch) for batch in islice(batches, clips)]
            for band, (first, end) in enumerate(pairwise(edges)):
                values = []
                for number in range(len(self._batches)):
                    triple = self._triple(number, band, (first + end) // 2)
                    values.append(float(objective(triple)["error"]))
                    bar.update()
                errors[f"error_{first}_{end - 1}"] = float(np.mean(values))
        return {"error": float(np.mean(list(errors.values()))), **errors}

    def _triple(self, number: int, band: int, timestep: int) -> LatentBatch:
        batch = self._batches[number]
        noise = rng_for(self._seed, _STREAM, number, band).standard_normal(batch.noise.shape, dtype=np.float32)
        fixed = replace(batch, noise=torch.from_numpy(noise), timesteps=torch.tensor([timestep]))
        (on_device,) = split_batch(fixed, 1, self._device)
        return on_device


def open_validation(
    settings: ValidationSettings, training: TrainingData, output: Path, context: DataContext
) -> Validation:
    """Open the data of validation: sources of its own, or those of training.

    Args:
        settings: of validation.
        training: the data of training.
        output: the run's folder.
        context: of the run.

    Raises:
        ValueError: for sources that can't be read, hold nothing of use, or were encoded by another model.
    """
    if settings.data is None:
        validation = Validation(settings, training.sources, context, held_out=False)
    else:
        images = context.num_frames == 1
        sources = open_sources(
            settings.data, output / "validation", context, images=images, images_unused_reason=VALIDATION_IS_CLIPS_ONLY
        )
        validation = Validation(settings, sources, context, held_out=True)
    restore_replaced(validation.loader, output, _REPLACED)
    return validation
