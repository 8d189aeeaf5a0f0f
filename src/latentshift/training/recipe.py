"""A recipe: every setting of a training run, checked, in one object that travels with the run.

A recipe is a YAML file whose ``stage`` says which of the paper's three stages (Fig. 3) it is; ``key=value`` words on
the command line override single settings (``optimizer.learning_rate=1e-4``). Knows nothing of how a stage is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from latentshift.bounded_read import load_yaml_bounded, parse_yaml_bounded
from latentshift.error_text import format_validation_error
from latentshift.settings import MOST_NOISE_SHARE, TRAIN_TIMESTEPS, ShiftConfig, Weighting
from latentshift.training.settings import (
    CLIPS_ALONE,
    NO_IMAGE_SHARE,
    AutoencoderModel,
    ComputeSettings,
    DataSettings,
    FrameSourceSettings,
    FramesSettings,
    LoadingSettings,
    LoraSettings,
    MayChange,
    OptimizerSettings,
    Settings,
    Sources,
    TextModel,
    UNetModel,
    ValidationSettings,
)


class RunSettings(Settings):
    """What all stages share: the run's folder, its length and its rhythm."""

    output: MayChange[Path] = Field(
        description="the run's folder: recipe, checkpoints, samples, logs, and finally the model"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the initial weights, the data order and all randomness")
    steps: MayChange[int] = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(ge=1, description="images or clips per step, over all processes")
    micro_batch_size: MayChange[int | None] = Field(
        None, ge=1, description="images or clips per forward pass of a process, to save memory; none: all of its share"
    )
    max_dropped_steps: MayChange[int] = Field(
        10,
        ge=0,
        description="consecutive steps with a non-finite loss or gradient that are skipped before the run ends",
    )
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="decay of the averaged weights (float32) that are exported"
    )
    ema_warmup: bool = Field(
        True,
        description="the decay rises as 1 - (1 + step)^-0.75; false: as (1 + step) / (10 + step), as in LDM",
    )
    trackers: MayChange[tuple[Literal["tensorboard", "wandb", "trackio"], ...]] = Field(
        ("tensorboard",), description="that log metrics and samples, in addition to files"
    )
    project: MayChange[str] = Field("latentshift", min_length=1, description="project name in the trackers")
    log_every: MayChange[int] = Field(20, ge=1)
    sample_every: MayChange[int] = Field(1000, ge=1)
    save_every: MayChange[int] = Field(500, ge=1)
    keep_checkpoints: MayChange[int] = Field(2, ge=1)
    optimizer: OptimizerSettings = OptimizerSettings()
    compute: MayChange[ComputeSettings] = ComputeSettings()

    unit: ClassVar[str] = "images"  # of samples

    @property
    def bases(self) -> tuple[str | Path, ...]:
        """The models, or runs, that this run starts from."""
        return ()

    @property
    def share_of_images(self) -> float:
        """The share of a video run's steps that learn single frames."""
        return 0.0

    @property
    def adapter(self) -> LoraSettings | None:
        """The low-rank adapter that is trained in place of the weights, if any."""
        return None

    @property
    def has_unet(self) -> bool:
        """Whether a U-Net is trained."""
        return False

    @property
    def base_model(self) -> str | None:
        """The model that is fine-tuned, if any."""
        return None

    @property
    def new_size(self) -> int | None:
        """Side of the frames in pixels that the base is to have; None: its own."""
        return None

    @property
    def text_models(self) -> tuple[str, ...]:
        """Folders and hub ids of a pretrained tokenizer or text encoder."""
        return ()

    @property
    def all_sources(self) -> tuple[DataSettings | FrameSourceSettings, ...]:
        """The sources of training and of validation."""
        return ()

    def no_images(self, source: DataSettings | FrameSourceSettings) -> str:
        """Why images of one of the sources are not used; empty: they are."""
        return ""

    @property
    def last_full_rate_step(self) -> int | None:
        """The last step before the final decay, from which a run can be made longer; None under a cosine schedule."""
        optimizer = self.optimizer
        return None if optimizer.schedule == "cosine" else self.steps - optimizer.decay_steps

    def micro_batches(self, processes: int) -> int:
        """How many micro-batches a process splits its share of a step's batch into.

        Raises:
            ValueError: for a batch that can't be shared evenly, or not in batches of ``micro_batch_size``.
        """
        share, rest = divmod(self.batch_size, processes)
        if rest or not share:
            raise ValueError(f"a batch_size of {self.batch_size} can't be shared evenly by {processes} processes")
        micro = self.micro_batch_size or share
        count, rest = divmod(share, micro)
        if rest or not count:
            raise ValueError(
                f"the {share} samples that a process has of each batch don't divide into batches of {micro}; change "
                "micro_batch_size or batch_size"
            )
        return count

    @property
    def validate_every(self) -> int | None:
        """Steps between validations; None: there is none."""
        return None

    @property
    def exports_best(self) -> bool:
        """Whether the step with the lowest validation error is exported, and not the last one."""
        return False

    @property
    def is_compiled(self) -> bool:
        """Whether torch.compile is used."""
        return False

    def count_samples(self) -> int | None:
        """How many samples the data offers before any of it is opened; None: it is endless.

        Raises:
            ValueError: for a source that can't be listed, or that offers nothing.
        """
        raise NotImplementedError

    def for_trial(self, folder: Path) -> Self:
        """A copy that writes into another folder alone, and makes one sample in few steps."""
        return self.model_copy(update={"output": folder})

    def check_resumes(self, previous: RunSettings, newest: int) -> None:
        """Check that a run can go on with this recipe.

        Args:
            previous: the recipe that it had.
            newest: the step of its newest checkpoint.

        Raises:
            ValueError: naming the first setting that differs and may not.
        """
        before, now = previous.fixed(), self.fixed()
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{self.output} holds a run of another recipe: {key} was {before.get(key)} and is now "
                    f"{now.get(key)}; choose another output, or delete this one"
                )
        full = previous.last_full_rate_step
        if previous.steps != self.steps and (full is None or newest > full):
            raise ValueError(
                f"the learning rate of {self.output} was falling already towards its {previous.steps} steps; go on "
                "with that number" + ("" if full is None else f", or delete its checkpoints after step {full}")
            )

    @model_validator(mode="after")
    def _check_fsdp(self) -> RunSettings:
        if self.compute.parallel == "fsdp" and (conflicts := fsdp_conflicts(self)):
            raise ValueError(f"compute.parallel=fsdp does not go with {conflicts[0]}; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_8bit_memory_format(self) -> RunSettings:
        # bitsandbytes makes weights contiguous at its first step, and its moments before that.
        if self.optimizer.kind == "adamw_8bit" and self.compute.channels_last:
            raise ValueError("optimizer.kind=adamw_8bit does not go with compute.channels_last; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_schedule_length(self) -> RunSettings:
        optimizer = self.optimizer
        if optimizer.warmup_steps + optimizer.decay_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps {optimizer.warmup_steps} and optimizer.decay_steps {optimizer.decay_steps} "
                f"are more than the {self.steps} steps: the learning rate would never reach its height"
            )
        return self


def fsdp_conflicts(recipe: RunSettings) -> list[str]:
    """The settings of a recipe that can't be combined with sharded weights (``compute.parallel=fsdp``)."""
    compute = recipe.compute
    settings = {
        "compute.channels_last": compute.channels_last,
        "compute.precision=fp16": compute.precision == "fp16",
        "compute.ema_device=cpu": compute.ema_device == "cpu",
        "optimizer.kind=adamw_8bit": recipe.optimizer.kind == "adamw_8bit",
        "compile": recipe.is_compiled,
    }
    return [name for name, is_set in settings.items() if is_set]


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

    def count_samples(self) -> int | None:
        from latentshift.training.frames import count_frames

        return count_frames(self.data.sources) if self.data.sources else None

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

    def count_samples(self) -> int | None:
        from latentshift.training.datasets import count_samples

        return count_samples(self.data, self.held_out_data, images=self.unit == "images")

    def for_trial(self, folder: Path) -> Self:
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
        description="settings of the temporal shift: fold, padding (zeros, circular or replicate), direction; those "
        "left out are the paper's; none: the base's, or the paper's for an image model",
    )
    noise_share: float | None = Field(
        None,
        ge=0,
        le=MOST_NOISE_SHARE,
        description="a of the noise that frames share, with the correlation a²/(1+a²); 0: independent (the paper's); "
        "none: the base's, or 0 for an image model",
    )
    size: int | None = Field(None, ge=8, description="side of the frames in pixels; none: the base's")
    num_frames: int | None = Field(None, ge=2, description="frames per video; none: the base's, or 16")
    fps: int | None = Field(None, ge=1, description="frames per second; none: the base's, or 8")
    train_text_encoder: bool = Field(False, description="train the text encoder too; the paper freezes it")
    image_share: float = Field(0.0, ge=0, lt=1, description="share of steps on single frames instead of clips")
    lora: LoraSettings | None = Field(None, description="train a LoRA; none: the full U-Net is trained")
    exports: MayChange[tuple[Literal["model", "lora", "delta"], ...] | None] = Field(
        None,
        description="files to export: model, lora (the adapter), delta (the difference to the base); none: the "
        "adapter if one is trained, else the model",
    )
    weights: MayChange[Literal["float32", "float16"]] = Field("float32", description="dtype of the exported model")

    unit: ClassVar[str] = "clips"

    @property
    def bases(self) -> tuple[str | Path, ...]:
        return (self.model,)

    @property
    def share_of_images(self) -> float:
        return self.image_share

    def no_images(self, source: DataSettings | FrameSourceSettings) -> str:
        if source in self.held_out_data:
            return CLIPS_ALONE
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
    def new_size(self) -> int | None:
        return self.size

    @model_validator(mode="after")
    def _check_exports(self) -> VideoRecipe:
        if self.lora is not None and self.train_text_encoder:
            raise ValueError("lora trains the U-Net alone, and train_text_encoder is set; leave one of them out")
        if self.exports is not None and "lora" in self.exports and self.lora is None:
            raise ValueError("exports names lora, and no lora is trained; set lora, or leave it out")
        return self

    @model_validator(mode="after")
    def _check_shift_method(self) -> VideoRecipe:
        if self.shift is not None and self.method not in (None, "latent-shift"):
            raise ValueError(f"shift is of method latent-shift, and method is {self.method}; leave one of them out")
        return self


AnyRecipe = AutoencoderRecipe | ImageRecipe | VideoRecipe
_ADAPTER: TypeAdapter[AnyRecipe] = TypeAdapter(Annotated[AnyRecipe, Field(discriminator="stage")])


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Read and check a recipe.

    Args:
        path: the YAML file.
        overrides: ``key=value`` words; a dot goes a level down, the value is YAML.

    Raises:
        ValueError: for a missing or malformed file, or settings that do not hold; the message names each one.
    """
    values = load_yaml_bounded(path, what="the recipe")
    if not isinstance(values, dict):
        raise ValueError(f"the recipe {path} must be a list of `key: value` lines")
    for word in sorted(overrides, key=lambda word: word.partition("=")[0].count(".")):  # data=… before data.seconds=…
        _override(values, word)
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise ValueError(f"the recipe {path} is not valid: {format_validation_error(error, leave_out=1)}") from None


def dump_recipe(recipe: AnyRecipe) -> str:
    """The recipe with every default spelled out, as YAML that :func:`load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _override(values: dict[str, Any], word: str) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ValueError(f"{word!r} is not of the form key=value")
    *path, last = key.split(".")
    for part in path:
        if part == "data" and isinstance(values.get(part), str):  # data=FOLDER data.seconds=1
            values[part] = {"source": values[part]}
        values = values.setdefault(part, {})
        if isinstance(values, list):
            raise ValueError(f"cannot set {key}: {part} is a list; set the complete list")
        if not isinstance(values, dict):
            raise ValueError(f"cannot set {key}: {part} is a single value")
    values[last] = parse_yaml_bounded(text, f"the value of {word!r}")
