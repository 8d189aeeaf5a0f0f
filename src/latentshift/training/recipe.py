"""A recipe: every setting of a training run, checked, in one object that travels with the run.

There is one for each of the paper's three stages (Fig. 3), and one for ControlNets. Knows nothing of how a stage is
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from latentshift.settings import MAX_NOISE_SHARE, TRAIN_TIMESTEPS, ShiftConfig, Weighting
from latentshift.training.run_settings import RunSettings
from latentshift.training.settings import (
    NO_IMAGE_SHARE,
    NO_SINGLE_FRAMES,
    VALIDATION_IS_CLIPS_ONLY,
    AutoencoderModel,
    DataSettings,
    FrameSourceSettings,
    FramesSettings,
    LoadingSettings,
    LoraSettings,
    MayChange,
    Sources,
    TextModel,
    UNetModel,
    ValidationSettings,
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


class DiffusionSettings(RunSettings):
    """What the two diffusion stages share."""

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


class ImageRecipe(DiffusionSettings):
    """Stage (b): text-to-image, U-Net and text encoder together, on latents of single frames."""

    stage: Literal["image"]
    autoencoder: MayChange[Path] = Field(description="folder of the trained autoencoder: the run of stage (a)")
    unet: UNetModel = UNetModel()
    text: TextModel = TextModel()
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="of a new text encoder: sprites (the words of sprites captions), captions (the words of the "
        "data's captions), or a folder or hub id with a pretrained one; none: sprites, or that of text_encoder",
    )
    text_encoder: MayChange[str | None] = Field(
        None,
        min_length=1,
        description="a folder or hub id with a pretrained CLIP text encoder, BERT or LDM-BERT and its tokenizer, or an "
        "image pipeline's folder; none: a new one",
    )
    train_text_encoder: bool = Field(True, description="false: a pretrained one is frozen")
    zero_terminal_snr: bool = Field(
        False, description="rescale the noise schedule so that its last timestep is noise alone (the paper's is not)"
    )

    @property
    def bases(self) -> tuple[str | Path, ...]:
        return (self.autoencoder, *([] if self.text_encoder is None else [self.text_encoder]))

    @property
    def text_models(self) -> tuple[str, ...]:
        named = self.text_encoder or self.tokenizer
        return () if named in (None, "sprites", "captions") else (str(named),)

    @property
    def has_sprites_vocabulary(self) -> bool:
        """Whether the tokenizer knows the words of the sprites world, and no others."""
        return self.text_encoder is None and self.tokenizer in (None, "sprites")

    @model_validator(mode="after")
    def _check_text_encoder(self) -> ImageRecipe:
        if self.text_encoder is not None and self.tokenizer is not None:
            raise ValueError("text_encoder brings its own tokenizer, and tokenizer is set; leave one of them out")
        if self.text_encoder is None and not self.train_text_encoder:
            raise ValueError("train_text_encoder is false, and a new text encoder knows nothing; set text_encoder")
        return self

    @model_validator(mode="after")
    def _check_zero_terminal_snr(self) -> ImageRecipe:
        if self.zero_terminal_snr and self.prediction_type != "v_prediction":
            raise ValueError(
                "zero_terminal_snr leaves nothing to learn at the last timestep by the prediction of noise; set "
                "prediction_type to v_prediction"
            )
        return self


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


AnyRecipe = AutoencoderRecipe | ImageRecipe | VideoRecipe | ControlNetRecipe
