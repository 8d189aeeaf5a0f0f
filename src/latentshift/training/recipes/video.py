"""The recipe of stage (c): text-to-video on clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from latentshift.settings import MAX_NOISE_SHARE, ShiftConfig
from latentshift.training.recipes.diffusion import DiffusionSettings
from latentshift.training.recipes.settings import (
    NO_IMAGE_SHARE,
    VALIDATION_IS_CLIPS_ONLY,
    DataSettings,
    FrameSourceSettings,
    LoraSettings,
    MayChange,
)


def _as_shift(value: Any) -> Any:
    return ShiftConfig.from_dict(value) if isinstance(value, dict) else value


class VideoRecipe(DiffusionSettings):
    """Stage (c): text-to-video, the shift installed on an image model and fine-tuned on clips."""

    stage: Literal["video"]
    model: MayChange[str] = Field(
        min_length=1,
        description="the model to fine-tune: the run of stage (b), a pipeline's folder, a hub id, or bundled",
    )
    variant: MayChange[str | None] = Field(
        None,
        min_length=1,
        description="of the model's weight files, as fp16 for model.fp16.safetensors; none: no variant",
    )
    method: Literal["latent-shift", "latent-vdm", "none"] | None = Field(
        None,
        description="temporal method: latent-shift, latent-vdm (the paper's baseline) or none; default: "
        "the base's, or latent-shift for an image model",
    )
    shift: Annotated[ShiftConfig, BeforeValidator(_as_shift)] | None = Field(
        None,
        description="settings of the temporal shift: fold, padding (zeros, circular or replicate), direction "
        "(first_from_past, first_from_future or past_only), place (conv1, conv2 or block), blocks (all, encoder or "
        "decoder); those left out are the paper's; none: the base's, or the paper's for an image model",
    )
    noise_share: float | None = Field(
        None,
        ge=0,
        le=MAX_NOISE_SHARE,
        description="a of the noise that frames share, with the correlation a²/(1+a²); 0: independent (the paper's); "
        "none: the base's, or 0 for an image model",
    )
    size: int | None = Field(None, ge=8, description="side of the frames in pixels; none: the base's")
    num_frames: int | None = Field(None, ge=2, description="frames per video; none: the base's, or 16")
    fps: int | None = Field(None, ge=1, description="frames per second; none: the base's, or 8")
    train_text_encoder: bool = Field(False, description="train the text encoder too; the paper freezes it")
    image_share: float = Field(0.0, ge=0, lt=1, description="share of steps on single frames instead of clips")
    frame_curriculum: dict[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=1)]] = Field(
        {},
        description="frames of a clip -> steps: begin with few frames, evenly spread over more clips, and go on with "
        "more of them, as {4: 1000, 8: 1000}; empty: whole clips from the first step (the paper's)",
    )
    known_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of clips with frames that are known: clean, at timestep 0 and without a loss, as keyframes "
        "and the overlap of extensions are seen in sampling; 0: none (the paper's)",
    )
    lora: LoraSettings | None = Field(None, description="train a LoRA; none: the full U-Net is trained")
    exports: MayChange[tuple[Literal["model", "lora", "delta"], ...] | None] = Field(
        None,
        description="files to export: model, lora (the adapter), delta (the difference to the base); none: the "
        "adapter if one is trained, else the model",
    )
    weights: MayChange[Literal["float32", "float16"]] = Field("float32", description="dtype of the exported model")

    @property
    def unit(self) -> str:
        return "clips"

    @property
    def bases(self) -> tuple[str | Path, ...]:
        return (self.model,)

    @property
    def share_of_images(self) -> float:
        return self.image_share

    @property
    def share_of_known(self) -> float:
        return self.known_share

    @property
    def steps_on_few_frames(self) -> dict[int, int]:
        return self.frame_curriculum

    def images_unused_reason(self, source: DataSettings | FrameSourceSettings) -> str:
        if source in self.held_out_data:
            return VALIDATION_IS_CLIPS_ONLY
        return "" if self.image_share else NO_IMAGE_SHARE

    @property
    def exported_files(self) -> tuple[str, ...]:
        """``exports``, or what is exported by default."""
        return self.exports or (("model",) if self.lora is None else ("lora",))

    @property
    def adapter(self) -> LoraSettings | None:
        return self.lora

    @property
    def base_model(self) -> str | None:
        return self.model

    @property
    def base_variant(self) -> str | None:
        return self.variant

    @property
    def new_size(self) -> int | None:
        return self.size

    @model_validator(mode="after")
    def _check_exports(self) -> VideoRecipe:
        if self.lora is not None and self.train_text_encoder:
            raise ValueError("lora trains the U-Net alone, and train_text_encoder is set; leave one of them out")
        if self.exports is not None and "lora" in self.exports and self.lora is None:
            raise ValueError("exports names lora, and no lora is trained; set lora, or leave it out")
        return self

    def for_memory_benchmark(self, folder: Path) -> Self:
        return super().for_memory_benchmark(folder).model_copy(update={"frame_curriculum": {}})

    def check_curriculum_fits(self, num_frames: int) -> None:
        """Check that each number of frames in ``frame_curriculum`` is less than a clip's.

        Args:
            num_frames: of a whole clip.

        Raises:
            ValueError: if one is not.
        """
        most = max(self.frame_curriculum, default=0)
        if most >= num_frames:
            raise ValueError(
                f"frame_curriculum has {most} frames, and a whole clip has {num_frames}; leave out what is not fewer "
                "(frame_curriculum={} is whole clips alone), or raise num_frames"
            )

    @model_validator(mode="after")
    def _check_frame_curriculum(self) -> VideoRecipe:
        few = sum(self.frame_curriculum.values())
        if few >= self.steps:
            raise ValueError(
                f"frame_curriculum takes {few:,} steps of {self.steps:,}, and none is left for whole clips; give it "
                "fewer steps (frame_curriculum={} is whole clips alone), or raise steps"
            )
        if self.num_frames is not None:  # else the base's, which is not read yet
            self.check_curriculum_fits(self.num_frames)
        return self

    @model_validator(mode="after")
    def _check_shift_method(self) -> VideoRecipe:
        if self.shift is not None and self.method not in (None, "latent-shift"):
            raise ValueError(f"shift is of method latent-shift, and method is {self.method}; leave one of them out")
        return self
