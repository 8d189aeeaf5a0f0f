"""The settings that all stages with a U-Net share: (b), (c) and that of ControlNets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from latentshift.settings import TRAIN_TIMESTEPS, Weighting
from latentshift.training.recipes.run_settings import RunSettings
from latentshift.training.recipes.settings import DataSettings, LoadingSettings, MayChange, Sources, ValidationSettings


class DiffusionSettings(RunSettings):
    """What the stages with a U-Net share."""

    data: Sources = Field(min_length=1, description="a source or a list of them; a source is a name or its settings")
    validation: MayChange[ValidationSettings | None] = Field(None, description="none: no validation")
    loading: MayChange[LoadingSettings] = LoadingSettings()
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of captions that are dropped, for guidance")
    motion_captions: float = Field(
        0.5, ge=0, le=1, description="share of images that are their clip's first frame, with the motion in the caption"
    )
    prediction_type: Literal["epsilon", "v_prediction"] | None = Field(
        None, description="the U-Net's prediction target; none: the base's, or epsilon (the paper's) for a new one"
    )
    loss_weight: Weighting = Field(
        "uniform", description="weight of a timestep in the loss: uniform (the paper's), min_snr, debiased or edm"
    )
    min_snr_gamma: float = Field(5.0, gt=0, description="γ of min_snr")
    sigma_data: float = Field(1.0, gt=0, description="σ_data of edm: the standard deviation of the latents")
    compile: MayChange[bool] = Field(
        False, description="torch.compile the U-Net: takes minutes at the start, faster steps"
    )
    sample_steps: MayChange[int] = Field(
        50, ge=2, le=TRAIN_TIMESTEPS, description="sampling steps of the samples during training"
    )
    guidance_scale: MayChange[float | None] = Field(
        None, ge=0, description="of the samples, and the exported model's default; none: the base's"
    )
    sample_prompts: MayChange[tuple[str, ...]] = Field(
        (), description="prompts of the samples; none: captions of the data"
    )
    export_from: MayChange[Literal["last", "best"]] = Field(
        "last", description="step to export: the last, or the one with the lowest validation error"
    )

    @property
    def has_unet(self) -> bool:
        return True

    @property
    def share_of_known(self) -> float:
        """The share of clips of which some frames are known."""
        return 0.0

    @property
    def all_data(self) -> tuple[DataSettings, ...]:
        """The sources of training and of validation."""
        return (*self.data, *self.held_out_data)

    @property
    def all_sources(self) -> tuple[DataSettings, ...]:
        return self.all_data

    @property
    def decodes_at_each_step(self) -> bool:
        """Whether clips of any source are decoded and encoded as they come."""
        return any(not each.encode for each in self.all_data)

    @property
    def held_out_data(self) -> tuple[DataSettings, ...]:
        """The sources of validation, if they are not those of training."""
        return () if self.validation is None else self.validation.data or ()

    @property
    def validate_every(self) -> int | None:
        return None if self.validation is None else self.validation.every

    @property
    def exports_best(self) -> bool:
        return self.export_from == "best"

    @property
    def is_compiled(self) -> bool:
        return self.compile

    def for_memory_benchmark(self, folder: Path) -> Self:
        data = tuple(each.model_copy(update={"latents": None}) for each in self.data)
        samples = {"sample_steps": 2, "sample_prompts": ("a clip",)}
        return self.model_copy(update={"output": folder, "data": data, **samples})

    @model_validator(mode="after")
    def _check_export_from(self) -> DiffusionSettings:
        if self.export_from == "best" and self.validation is None:
            raise ValueError("export_from is best, and nothing says which step is; set validation")
        return self
