"""Stage (a) of Fig. 3: an autoencoder learns to compress single frames."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentshift.data.sample_order import rng_for
from latentshift.data.sprites import Sprites
from latentshift.files import atomic_write
from latentshift.training.build import new_autoencoder
from latentshift.training.losses import AutoencoderLoss, FrameBatch
from latentshift.training.recipe import AutoencoderRecipe
from latentshift.video import to_uint8, to_unit, write_video

PREVIEW_FRAMES = 16
_STATISTICS_FRAMES = 512


class AutoencoderStage:
    """Frames of the seen clips in, a folder with a stock ``AutoencoderKL`` out."""

    def __init__(self, recipe: AutoencoderRecipe, rank: int = 0, ranks: int = 1) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.rank, self.ranks = rank, ranks
        self.source = Sprites(size=recipe.data.size, seed=recipe.data.seed)
        self.autoencoder = new_autoencoder(recipe.model, recipe.data.size)
        self.objective = AutoencoderLoss(self.autoencoder, recipe.kl_weight, recipe.edge_weight)
        self.latent_side = recipe.data.size // 2 ** (len(recipe.model.channels) - 1)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Nothing: this stage begins with nothing but its recipe."""
        return {}

    def batches(self, step: int) -> Generator[FrameBatch]:
        for number in itertools.count(step):
            yield self._batch(number)

    def describe_data(self) -> dict[str, Any]:
        return {"sources": [{"source": "sprites", "refused": []}]}

    def data_lines(self) -> list[str]:
        return []

    def data_issues(self) -> dict[str, list[Any]]:
        return {}

    def _batch(self, step: int) -> FrameBatch:
        share = self.recipe.batch_size // self.ranks
        first = (step - 1) * self.recipe.batch_size + self.rank * share
        indices = range(first, first + share)  # the world never ends: no frame is seen twice
        shape = (self.recipe.model.latent_channels, self.latent_side, self.latent_side)
        noise = np.stack(
            [rng_for(self.recipe.seed, 0, index).standard_normal(shape, dtype=np.float32) for index in indices]
        )
        return FrameBatch(
            frames=self._frames(indices),
            noise=torch.from_numpy(noise),
            names=lambda: [f"sprites {index}" for index in indices],
        )

    @property
    def validation_id(self) -> None:
        """There is no validation."""

    def validate(self) -> dict[str, float]:
        return {}

    def sample(self, folder: Path, step: int) -> None:
        frames = self._preview_frames(PREVIEW_FRAMES)
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
            chunks = self._preview_frames(_STATISTICS_FRAMES).split(PREVIEW_FRAMES)
            latents = torch.cat([self.autoencoder.encode(chunk).latent_dist.mean for chunk in chunks])
        scaling = self.recipe.latent_std / latents.float().std().item()
        self.autoencoder.register_to_config(scaling_factor=round(scaling, 5))
        with atomic_write(output / "model") as folder:
            self.autoencoder.save_pretrained(folder)

    def _frames(self, indices: range) -> Tensor:
        frames = np.stack([self.source.frame(index)[0] for index in indices])
        return to_unit(torch.from_numpy(frames).permute(0, 3, 1, 2))

    def _preview_frames(self, count: int) -> Tensor:
        # From far along the stream: frames that training does not reach.
        start = 2**40
        return self._frames(range(start, start + count)).to(next(self.autoencoder.parameters()).device)
