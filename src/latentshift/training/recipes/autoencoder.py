"""The recipe of stage (a): a KL autoencoder on single frames."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from latentshift.training.recipes.run_settings import RunSettings
from latentshift.training.recipes.settings import (
    AutoencoderModel,
    FrameSourceSettings,
    FramesSettings,
    LoadingSettings,
    MayChange,
)


class AutoencoderRecipe(RunSettings):
    """Stage (a): a KL autoencoder on single frames."""

    stage: Literal["autoencoder"]
    data: FramesSettings = Field(
        FramesSettings(), description="size and seed of sprites; or a source, its settings, or a list of them"
    )
    loading: MayChange[LoadingSettings] = LoadingSettings()
    model: AutoencoderModel = AutoencoderModel()
    kl_weight: float = Field(1e-6, ge=0, description="weight of the mean KL divergence of a latent value")
    edge_weight: float = Field(0.0, ge=0, description="weight of the L1 distance of neighbouring pixels' differences")
    mse_weight: float = Field(0.0, ge=0, description="weight of the mean squared error, beside the L1 distance")
    latent_std: float = Field(
        1.0, gt=0, description="standard deviation of scaled latents; below 1 all timesteps are noisier"
    )

    @property
    def all_sources(self) -> tuple[FrameSourceSettings, ...]:
        return self.data.sources

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a frame's latents."""
        side = self.data.size // 2 ** (len(self.model.channels) - 1)
        return (self.model.latent_channels, side, side)

    @model_validator(mode="after")
    def _check_size(self) -> AutoencoderRecipe:
        factor = 2 ** (len(self.model.channels) - 1)
        if self.data.size % factor:
            raise ValueError(f"data.size {self.data.size} does not divide by {factor}, as the model's levels ask for")
        return self
