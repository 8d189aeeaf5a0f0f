"""Stage (a) of Fig. 3: an autoencoder learns to compress single frames."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentshift.data.sample_order import rng_for
from latentshift.files import atomic_write
from latentshift.training.data.frames import FramesContext, open_frames
from latentshift.training.losses import AutoencoderLoss, FrameBatch
from latentshift.training.models.build import new_autoencoder
from latentshift.training.monitoring.previews import PREVIEW_FRAMES
from latentshift.training.recipe import AutoencoderRecipe
from latentshift.video import to_uint8, to_unit, write_video

_STATISTICS_FRAMES = 512


class AutoencoderStage:
    """Single frames in, a folder with a stock ``AutoencoderKL`` out.

    Args:
        recipe: the stage's, from which everything is built.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.
    """

    def __init__(self, recipe: AutoencoderRecipe, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        self.seed, self.latent_std = recipe.seed, recipe.latent_std
        context = FramesContext(recipe.output, recipe.batch_size, recipe.loading, recipe.seed, rank, ranks)
        self.frames = open_frames(recipe.data, context)
        self.autoencoder = new_autoencoder(recipe.model, recipe.data.size)
        self.objective = AutoencoderLoss(self.autoencoder, recipe.kl_weight, recipe.edge_weight, recipe.mse_weight)
        self.latent_shape = recipe.latent_shape
        self._batch_size = recipe.batch_size

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """The digests of the sources; the sprites world has none."""
        return self.frames.digests

    def batches(self, step: int) -> Generator[FrameBatch]:
        with closing(self.frames.batches(step)) as batches:
            for batch in batches:
                noise = [
                    rng_for(self.seed, *place).standard_normal(self.latent_shape, dtype=np.float32)
                    for place in batch.places
                ]
                yield FrameBatch(_to_tensor(batch.pixels), torch.from_numpy(np.stack(noise)), batch.names)

    def samples_until(self, step: int) -> int:
        return step * self._batch_size

    def describe_data(self) -> dict[str, Any]:
        return self.frames.describe()

    def data_summary(self) -> list[str]:
        return self.frames.summary_lines()

    def data_issues(self) -> dict[str, list[Any]]:
        return self.frames.issues()

    @property
    def validation_id(self) -> None:
        """There is no validation."""

    def validate(self) -> dict[str, float]:
        return {}

    def sample(self, folder: Path, step: int) -> None:
        (frames,) = self._preview(PREVIEW_FRAMES)
        with torch.no_grad():
            restored = self.autoencoder.decode(self.autoencoder.encode(frames).latent_dist.mean).sample
        rows = [torch.cat(list(half), dim=-1) for half in (frames, restored)]
        picture = to_uint8(torch.cat(rows, dim=-2)).permute(1, 2, 0).cpu().numpy()
        write_video(folder / f"step-{step:08d}.png", picture[None])

    def export(self, output: Path) -> None:
        # The noise schedule takes latents to have unit variance (Rombach et al. 2022, App. G). Less of it lowers the
        # signal at every timestep (Chen 2023, "On the Importance of Noise Scheduling for Diffusion Models"): sixteen
        # frames that repeat each other show through the noisiest step of the usual schedule.
        with torch.no_grad():
            chunks = self._preview(_STATISTICS_FRAMES)
            latents = torch.cat([self.autoencoder.encode(chunk).latent_dist.mean for chunk in chunks])
        scaling = self.latent_std / latents.float().std().item()
        self.autoencoder.register_to_config(scaling_factor=round(scaling, 5))
        with atomic_write(output / "model") as folder:
            self.autoencoder.save_pretrained(folder)

    def _preview(self, count: int) -> Iterator[Tensor]:
        """The same ``count`` frames each time, (N, 3, S, S) in [-1, 1] on the model's device, a few at a time."""
        device = next(self.autoencoder.parameters()).device
        frames = self.frames.preview(count)
        while chunk := list(itertools.islice(frames, PREVIEW_FRAMES)):
            yield _to_tensor(np.stack(chunk)).to(device)


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """Uint8 (B, S, S, 3) -> (B, 3, S, S) in [-1, 1]."""
    return to_unit(torch.from_numpy(pixels).permute(0, 3, 1, 2))
