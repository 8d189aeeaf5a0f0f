"""Stage (b)'s tokenizer and text encoder: new ones for a vocabulary, or pretrained ones from a folder or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from transformers import (
    AutoTokenizer,
    BertModel,
    CLIPTextModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from latentshift.data.sprites import words
from latentshift.models.conditioning.text import build_word_tokenizer, caption_words, check_vocabulary
from latentshift.models.storage.model_paths import resolve_model
from latentshift.models.storage.saved_pipeline import find_family
from latentshift.training.data.captions import training_captions
from latentshift.training.recipes.settings import DataSettings, TextModel

_MAX_NAMED = 5  # unknown words in a message
_MAX_CHECKED = 30_000  # words of the captions

# By the configuration's model_type; of a whole CLIP its text encoder is taken.
_PRETRAINED: dict[str, Any] = {
    "clip": CLIPTextModel,
    "clip_text_model": CLIPTextModel,
    "bert": BertModel,
    "ldmbert": LDMBertModel,
}


def build_text_model(
    text: TextModel,
    tokenizer: str | None,
    text_encoder: str | None,
    data: Sequence[DataSettings],
    *,
    meta: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The text encoder and the tokenizer that stage (b) begins with.

    Args:
        text: the length of sentences, and the shape of a new text encoder.
        tokenizer: of a new one: ``sprites``, ``captions``, a folder or a hub id; None: ``sprites``.
        text_encoder: folder or hub id of a pretrained one, with its tokenizer; None: a new one.
        data: sources of the captions, for their vocabulary.
        meta: on torch's meta device, without weights.

    Raises:
        ValueError: for a folder or hub id without them, of a kind that is not known, or that is damaged.
    """
    if text_encoder is not None:
        return load_text_encoder(text_encoder, meta=meta), _tokenizer_beside(text_encoder, text.tokens)
    if tokenizer in (None, "sprites"):
        built = build_word_tokenizer(words(), text.tokens)
    elif tokenizer == "captions":
        built = build_word_tokenizer(caption_words(training_captions(data), text.words), text.tokens)
    else:
        built = _load_tokenizer(str(tokenizer), "tokenizer", text.tokens)
    with torch.device("meta") if meta else nullcontext():
        return _new_text_encoder(text, len(built)), built


def load_text_encoder(name: str, *, meta: bool = False) -> PreTrainedModel:
    """A pretrained CLIP text encoder, BERT or LDM-BERT, in float32 and without dropout.

    Args:
        name: folder or hub id of such a model, or the folder of an image pipeline that has one.
        meta: on torch's meta device, without weights.

    Raises:
        ValueError: for a folder or hub id without one, of a kind that is not known, or that is damaged.
    """
    where, part = _location(name, "text_encoder")
    try:
        values, _ = PretrainedConfig.get_config_dict(where, subfolder=part)
        kind = _PRETRAINED.get(values.get("model_type", ""))
        if kind is None:
            model_type = values.get("model_type") or "model of no known type"
            raise ValueError(f"text_encoder {name} is a {model_type}; a CLIP, BERT or LDM-BERT is needed")
        config = kind.config_class.from_pretrained(where, subfolder=part)
        for setting in config.to_dict():
            if "dropout" in setting and isinstance(getattr(config, setting), float):
                setattr(config, setting, 0.0)  # a step's draws come from its data alone
        if meta:
            with torch.device("meta"):
                return kind(config)
        encoder, info = kind.from_pretrained(
            where,
            subfolder=part,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    except OSError as error:
        raise ValueError(f"text_encoder {name} can't be read: {str(error).splitlines()[0]}") from None
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"text_encoder {name} is incomplete: {missing[0]} is missing in its weights")
    return encoder.train()


def check_known_words(tokenizer: PreTrainedTokenizerBase, data: Sequence[DataSettings]) -> None:
    """Refuse captions of which the sprites' vocabulary knows less than half the words.

    Raises:
        ValueError: naming words that are unknown.
    """
    if all(each.source == "sprites" for each in data):
        return
    caption_vocabulary = caption_words(training_captions(data), _MAX_CHECKED)
    unknown = [word for word in caption_vocabulary if word not in tokenizer.get_vocab()]
    if 2 * len(unknown) > len(caption_vocabulary):
        raise ValueError(
            f"the captions hold {len(unknown)} words that the sprites' vocabulary does not know "
            f"({', '.join(unknown[:_MAX_NAMED])}…); set tokenizer=captions, a pretrained tokenizer, or a text_encoder"
        )


def _tokenizer_beside(text_encoder: str, tokens: int) -> PreTrainedTokenizerBase:
    tokenizer = _load_tokenizer(text_encoder, "text_encoder", tokens)
    where, part = _location(text_encoder, "text_encoder")
    values, _ = PretrainedConfig.get_config_dict(where, subfolder=part)
    known = values.get("vocab_size") or values.get("text_config", {}).get("vocab_size")
    if known is not None and len(tokenizer) > known:
        raise ValueError(
            f"text_encoder {text_encoder} knows {known} tokens, and the tokenizer beside it has {len(tokenizer)}"
        )
    return tokenizer


def _load_tokenizer(name: str, setting: str, tokens: int) -> PreTrainedTokenizerBase:
    """Its sentences are as long as it says, and at most ``tokens``."""
    where, part = _location(name, "tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, subfolder=part)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{setting} {name} has no tokenizer that can be read: {str(error).splitlines()[0]}") from None
    check_vocabulary(tokenizer, name)
    if tokenizer.pad_token is None:
        raise ValueError(f"the tokenizer of {setting} {name} has no padding token, which sentences are filled up with")
    tokenizer.model_max_length = min(tokenizer.model_max_length, tokens)
    return tokenizer


def _location(name: str, part: str) -> tuple[str, str]:
    """Folder or hub id, and the subfolder of a part in it: of an image pipeline, of a run, or of a model by itself."""
    where = resolve_model(name)
    if not (Path(where) / "model_index.json").is_file():
        return where, ""
    family = find_family(where)
    if family is None:
        return where, part
    if "text_encoder_2" in family.parts:
        raise ValueError(f"{name} has two text encoders, and stage (b) trains with one; name another folder")
    return where, family.parts[part]


def _new_text_encoder(text: TextModel, vocabulary: int) -> LDMBertModel:
    encoder = LDMBertModel(
        LDMBertConfig(
            vocab_size=vocabulary,
            max_position_embeddings=text.tokens,
            encoder_layers=text.layers,
            encoder_ffn_dim=4 * text.width,
            encoder_attention_heads=text.heads,
            head_dim=text.width // text.heads,
            d_model=text.width,
            dropout=0.0,
        )
    )
    # Words begin far apart (LDM-BERT's own start is 0.02): single frames give no reason to tell "left" from "right",
    # and stage (c) would be handed nearly the same for both (docs/log.md, 2026-11-21).
    torch.nn.init.normal_(encoder.model.embed_tokens.weight)
    return encoder
