"""The recipe of a ControlNet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from latentshift.training.recipes.diffusion import DiffusionSettings
from latentshift.training.recipes.settings import NO_SINGLE_FRAMES, DataSettings, FrameSourceSettings, MayChange


class ControlNetRecipe(DiffusionSettings):
    """A ControlNet of a model, whose own weights stay as they are."""

    stage: Literal["controlnet"]
    model: MayChange[str] = Field(
        min_length=1, description="the base: a video model's run or folder, an image pipeline's, a hub id, or bundled"
    )
    variant: MayChange[str | None] = Field(
        None,
        min_length=1,
        description="of the model's weight files, as fp16 for model.fp16.safetensors; none: no variant",
    )
    condition: Literal["edges"] = Field(
        "edges", description="pictures made of the frames: edges (latentshift.video.edge_maps)"
    )
    num_frames: int | None = Field(None, ge=1, description="frames of a sample; 1: single frames; none: the model's")
    shift_controlnet: bool = Field(
        False,
        description="frames meet in the ControlNet too, as in latentshift.video(pipe, also=[pipe.controlnet]), and not "
        "in the model alone",
    )

    @property
    def unit(self) -> str:
        return "images" if self.num_frames == 1 else "clips"

    @property
    def bases(self) -> tuple[str | Path, ...]:
        return (self.model,)

    def images_unused_reason(self, source: DataSettings | FrameSourceSettings) -> str:
        return "" if self.num_frames == 1 else NO_SINGLE_FRAMES

    @property
    def base_model(self) -> str | None:
        return self.model

    @property
    def base_variant(self) -> str | None:
        return self.variant

    @model_validator(mode="after")
    def _check_pixels(self) -> ControlNetRecipe:
        for each in self.all_data:
            if each.encode:
                raise ValueError(
                    f"the pictures of a ControlNet are made of a clip's pixels, and {each.source} is to be encoded "
                    "once: set encode to false in data, and name videos, not encoded clips"
                )
        return self

    @model_validator(mode="after")
    def _check_is_the_bases(self) -> ControlNetRecipe:
        if self.prediction_type is not None:
            raise ValueError("a ControlNet is trained for what its model predicts; leave prediction_type out")
        if self.compile:
            raise ValueError("compile is not for stage controlnet; leave it out")
        if self.shift_controlnet and self.num_frames == 1:
            raise ValueError("shift_controlnet is true, and single frames have none to meet; set num_frames")
        return self
