"""The groups of settings in a recipe, checked, and which settings may change when a run is resumed.

Knows nothing of how a stage is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, PositiveInt, Tag, model_validator

from latentshift.data.footage.framing import Crop
from latentshift.data.footage.window import Place, Short
from latentshift.settings import LORA_TARGETS
from latentshift.user_input.strict_numbers import StrictNumbers


class _MayChange:
    """Marks a setting with which a run may be resumed though it has changed."""


_T = TypeVar("_T")
_MAY_CHANGE = _MayChange()
MayChange = Annotated[_T, _MAY_CHANGE]


class Settings(StrictNumbers):
    """Base of all settings: unknown keys are errors, and nothing changes after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def changeable(cls) -> frozenset[str]:
        """The names of the settings that may change when a run is resumed."""
        return frozenset(name for name, field in cls.model_fields.items() if _MAY_CHANGE in field.metadata)

    def fixed(self) -> dict[str, Any]:
        """The values of the others, groups of settings included, as JSON values."""
        values = self.model_dump(mode="json", exclude=set(self.changeable()))
        for name in values:
            value = getattr(self, name)
            if isinstance(value, Settings):
                values[name] = value.fixed()
            elif isinstance(value, tuple) and all(isinstance(each, Settings) for each in value):
                values[name] = [each.fixed() for each in value]
        return values


NO_IMAGE_SHARE = "image_share is 0"
NO_SINGLE_FRAMES = "num_frames is not 1"
VALIDATION_IS_CLIPS_ONLY = "validation is of clips alone"
"""Why the images of a source are not used."""


class DataSettings(Settings):
    """One source of captioned clips, and how they are taken from it."""

    captioned: ClassVar[bool] = True  # whether entries without a caption are rejected

    source: MayChange[str] = Field(
        min_length=1,
        description="a folder, a video, a manifest (.jsonl), sprites, kind:PATH, or a folder written by data encode",
    )
    options: MayChange[dict[str, Any]] = Field({}, description="of the source, e.g. {root: /data/webvid}")
    weight: float = Field(1.0, gt=0, description="share of the samples, relative to the other sources'")
    encode: bool = Field(True, description="encode once before training; false: decode and encode at each step")
    latents: MayChange[Path | None] = Field(
        None, description="folder for encoded clips; none: latents/ in the run's folder"
    )
    frames: int | None = Field(None, ge=1, description="frames per clip; none: the model's, 16 for images")
    seconds: float = Field(2.0, gt=0, description="duration of a clip")
    place: Place = Field("random", description="position of the window: random, first or centre")
    short: Short = Field(
        "refuse", description="for shorter clips: refuse, hold (repeat the last frame) or shorten (the window)"
    )
    crop: Crop = Field("centre", description="crop position: centre or random")
    flip: bool = Field(False, description="mirror half of the clips; captions may mention left and right")
    views: int = Field(1, ge=1, description="random windows and crops encoded of each clip")
    seed: int = Field(0, ge=0, description="seed of those windows and crops")


class FrameSourceSettings(Settings):
    """One source of single frames; captions are not needed."""

    captioned: ClassVar[bool] = False

    source: MayChange[str] = Field(
        min_length=1, description="a folder, a video, a manifest (.jsonl), sprites, or kind:PATH"
    )
    options: MayChange[dict[str, Any]] = Field({}, description="of the source, e.g. {root: /data/webvid}")
    weight: float = Field(1.0, gt=0, description="share of the frames, relative to the other sources'")
    crop: Crop = Field("centre", description="crop position: centre or random")
    flip: bool = Field(False, description="mirror half of the frames")


_SPRITES_SIZE, _SOURCES_SIZE = 64, 256


class FramesSettings(Settings):
    """Single frames: of the endless sprites world, none of them twice, or of sources of videos and images.

    A source's name, its settings, or a list of them stand for ``{sources: …}``.
    """

    size: int = Field(
        _SPRITES_SIZE, ge=32, description=f"side of the frames in pixels; default for sources: {_SOURCES_SIZE}"
    )
    seed: int = Field(0, ge=0, description="of sprites")
    sources: tuple[FrameSourceSettings, ...] = Field((), description="empty: sprites")

    @model_validator(mode="before")
    @classmethod
    def _from_sources(cls, value: Any) -> Any:
        if value == "sprites":
            return {}
        if isinstance(value, str | int | float | list | tuple):
            value = {"sources": value}
        if not isinstance(value, dict):
            return value
        if "source" in value:  # one source's settings, with the size of its frames among them
            own = {name: value[name] for name in cls.model_fields if name in value}
            value = {**own, "sources": {name: each for name, each in value.items() if name not in own}}
        if value.get("sources"):
            return {"size": _SOURCES_SIZE, **value, "sources": _as_sources(value["sources"])}
        return value

    @model_validator(mode="after")
    def _check_seed(self) -> FramesSettings:
        if self.sources and self.seed:
            raise ValueError("seed is of the sprites world, and sources are named; the run's own seed is `seed`")
        return self


class LoadingSettings(Settings):
    """How clips are read; none of it changes what is learned."""

    workers: int = Field(2, ge=0, description="decoding processes; encoded clips need none")
    time_limit: float = Field(60.0, gt=0, description="time limit for one clip, in seconds")
    memory_limit: float = Field(4.0, ge=0.25, description="memory limit for one clip, in GiB")
    retry: bool = Field(False, description="encode refused clips again, e.g. after repairing files or raising a limit")


_Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(Settings):
    """AdamW and the course of its learning rate."""

    kind: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit: optimizer state in 8 bits (bitsandbytes)"
    )
    learning_rate: MayChange[float] = Field(1e-4, gt=0)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["constant", "cosine"] = Field("constant", description="after the warm-up")
    decay_steps: int = Field(0, ge=0, description="last steps of a linear decay to zero")
    betas: tuple[_Decay, _Decay] = Field((0.9, 0.999), description="of Adam")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float | None = Field(1.0, gt=0, description="gradient clipping; none: no clipping")


class ComputeSettings(Settings):
    """How the arithmetic is done; none of it changes what is learned, beyond rounding."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="of autocast; weights stay in float32")
    channels_last: bool = False
    attention: Literal["default", "math", "math_on_cpu"] = Field(
        "default",
        description="math: faster for short sequences on a CPU; math_on_cpu: math on a CPU, the default elsewhere",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; none: torch's default")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, slower"
    )
    ema_device: Literal["accelerator", "cpu"] = Field("accelerator", description="device of the averaged weights")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="several processes replicate the weights (ddp) or shard them (fsdp: FSDP2)"
    )
    rank_timeout: float = Field(
        1800.0,
        gt=0,
        le=30 * 86_400,
        description="seconds that one of several processes waits for another; the main one may work alone for longer",
    )


class AutoencoderModel(Settings):
    """The autoencoder's shape (diffusers ``AutoencoderKL``): 2^(levels-1) times smaller on each side."""

    channels: tuple[PositiveInt, ...] = Field((128, 256, 512, 512), min_length=1)
    layers_per_block: int = Field(2, ge=1)
    latent_channels: int = Field(4, ge=1)
    norm_groups: int = Field(32, ge=1)


def _int_or_list(value: Any) -> str:
    """The member of a union that a value is meant for, so that an error is of that one alone."""
    return "list" if isinstance(value, list | tuple) else "int"


class UNetModel(Settings):
    """The U-Net's shape (diffusers ``UNet2DConditionModel``)."""

    channels: tuple[PositiveInt, ...] = Field((320, 640, 1280, 1280), min_length=1)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: Annotated[
        Annotated[PositiveInt, Tag("int")] | Annotated[tuple[PositiveInt, ...], Tag("list")],
        Discriminator(_int_or_list),
    ] = Field(2, description="of all levels, or of each")
    heads: int = Field(8, ge=1)
    norm_groups: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _check_levels(self) -> UNetModel:
        if len(self.channels) != len(self.attention):
            raise ValueError(f"channels names {len(self.channels)} levels and attention {len(self.attention)}")
        layers = self.layers_per_block
        if not isinstance(layers, int) and len(layers) != len(self.channels):
            raise ValueError(f"channels names {len(self.channels)} levels and layers_per_block {len(layers)}")
        return self


class TextModel(Settings):
    """The length of a sentence in tokens, and the shape of a new text encoder (``LDMBertModel``)."""

    width: int = Field(1280, ge=8)
    layers: int = Field(32, ge=1)
    heads: int = Field(8, ge=1)
    tokens: int = Field(77, ge=16, description="tokens per sentence; at most those of a pretrained text encoder")
    words: int = Field(30_000, ge=1, description="size of the vocabulary for tokenizer: captions")

    @model_validator(mode="after")
    def _check_heads(self) -> TextModel:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        return self


def _as_sources(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else [value]
    return [{"source": str(each)} if isinstance(each, str | int | float) else each for each in values]


Sources = Annotated[tuple[DataSettings, ...], BeforeValidator(_as_sources)]


class ValidationSettings(Settings):
    """The error at fixed triples of a clip, a timestep and noise."""

    every: int = Field(1000, ge=1, description="steps between validations")
    clips: int = Field(32, ge=1)
    bands: int = Field(4, ge=1, description="equal parts of the timesteps, from the cleanest to the noisiest")
    data: Annotated[Sources, Field(min_length=1)] | None = Field(
        None, description="sources of the clips; none: the run's data"
    )


class LoraSettings(Settings):
    """A low-rank adapter is trained in place of the U-Net's weights."""

    rank: int = Field(16, ge=1)
    alpha: float | None = Field(None, gt=0, description="the update is scaled by alpha / rank; none: by 1")
    targets: tuple[str, ...] = Field(LORA_TARGETS, min_length=1, description="suffixes of layer names")
    dropout: float = Field(0.0, ge=0, lt=1)
