"""Text conditioning: sentence -> token ids -> embeddings, for all supported text encoders.

Knows nothing of images or video: a sentence is encoded once, whatever the number of frames.
Legend of shapes: P prompts, L tokens, D width of the text encoders together.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.loaders import TextualInversionLoaderMixin
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedTokenizerBase

from latentshift.diffusion.condition import TextCondition

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SMALL_VOCABULARY = 1000  # entries; larger vocabularies are not listed


def build_word_tokenizer(words: Sequence[str], max_length: int) -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer with one token for each of ``words``; other words are split into characters.

    It is a stock ``BertTokenizer`` (the paper's text encoder is a BERT, Table 6), so a saved folder loads without this
    package. Characters are ASCII, and accents are removed: a word in another script, or of more than 100 characters,
    becomes one ``[UNK]``.

    Args:
        words: words that become one token, lower case.
        max_length: tokens that a sentence is padded or truncated to.
    """
    characters = sorted(set(string.printable.lower()) - set(string.whitespace))
    entries = [*SPECIAL_TOKENS, *words, *characters, *(f"##{character}" for character in characters)]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)


def caption_words(captions: Iterable[str], most: int) -> list[str]:
    """The words of captions as :func:`build_word_tokenizer`'s tokenizer splits them, the most frequent first.

    Args:
        captions: of the training data.
        most: maximum number of words; ties are broken alphabetically.
    """
    splitter = build_word_tokenizer((), 16).backend_tokenizer
    counts: Counter[str] = Counter()
    for caption in captions:
        words = splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(caption))
        counts.update(word for word, _ in words)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


class TextEncoders(nn.Module):
    """The text encoders of a pipeline as one module: from prompts to the U-Net's text condition.

    One encoder (LDM-BERT, or CLIP in SD 1.x and 2.x) gives its last hidden state. Two (SDXL) give their penultimate
    hidden states, concatenated, and the second one its pooled embedding.

    Args:
        encoders: one or two.
        tokenizers: one for each.
        zero_empty: whether the condition of no sentence is all zeros (SDXL's ``force_zeros_for_empty_prompt``) instead
            of that of the empty sentence.

    Attributes:
        length: L, tokens of every sentence: the least of the encoders' positions and the tokenizers' limits.
        width: of the encoders together, which is the one that the U-Net takes.
        pooled_width: width of the pooled embedding; None if there is none.
    """

    def __init__(
        self, encoders: Sequence[nn.Module], tokenizers: Sequence[PreTrainedTokenizerBase], zero_empty: bool = False
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.tokenizers = list(tokenizers)
        configs: list[Any] = [encoder.config for encoder in encoders]
        positions = [int(config.max_position_embeddings) for config in configs]
        self.length = min(*positions, *(tokenizer.model_max_length for tokenizer in tokenizers))
        self.width = sum(int(config.hidden_size) for config in configs)
        self.pooled_width = int(configs[-1].projection_dim) if len(encoders) > 1 else None
        self._empty = self.tokenize([""]) if zero_empty else None

    @property
    def parts(self) -> tuple[Any, ...]:
        """Encoders and tokenizers: all that an embedding depends on."""
        return (*self.encoders, *self.tokenizers)

    @property
    def is_trained(self) -> bool:
        """Whether any of the weights is trained."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def requires_grad_(self, requires_grad: bool = True) -> TextEncoders:
        super().requires_grad_(requires_grad)
        for encoder in self.encoders:
            if (pooler := getattr(encoder, "pooler", None)) is not None:  # BERT's pooler, whose output is not used
                pooler.requires_grad_(False)
        return self

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token ids (P, encoders, L), each padded or truncated to L, as in image pipelines."""
        return tokenize(self.tokenizers, prompts, self.length)

    def check_clip_skip(self, clip_skip: int) -> None:
        """Refuse a number of layers to leave out that these encoders do not have.

        Raises:
            ValueError: if it is not 1 … one less than the layers of an encoder, or an encoder is no CLIP.
        """
        for encoder in self.encoders:
            config: Any = encoder.config
            layers = getattr(config, "num_hidden_layers", 0) - (1 if len(self.encoders) > 1 else 0)
            if _final_norm(encoder) is None:
                raise ValueError(f"clip_skip is for CLIP, and the text encoder is a {type(encoder).__name__}")
            if not isinstance(clip_skip, int) or not 1 <= clip_skip <= layers:
                raise ValueError(f"clip_skip must be 1 to {layers} for this text encoder, not {clip_skip!r}")

    def forward(self, token_ids: Tensor) -> TextCondition:
        """The text conditions of token ids (P, encoders, L).

        With ``zero_empty`` the empty sentence gives zeros.
        """
        text = self.embed(token_ids)
        if self._empty is not None:
            is_empty = (token_ids == self._empty.to(token_ids.device)).all(dim=(1, 2))
            text = text.masked(is_empty)
        return text

    def embed(self, token_ids: Tensor, clip_skip: int = 0) -> TextCondition:
        """The text conditions of token ids (P, encoders, L), the empty sentence's too.

        Args:
            token_ids: from :meth:`tokenize`.
            clip_skip: layers of the encoders that are left out at the end; 0: none.
        """
        if len(self.encoders) == 1:
            encoder, ids = self.encoders[0], token_ids[:, 0]
            if not clip_skip:
                return TextCondition(encoder(ids)[0])
            states = encoder(ids, output_hidden_states=True, return_dict=True).hidden_states
            return TextCondition(cast(nn.Module, _final_norm(encoder))(states[-1 - clip_skip]))
        outputs = [
            encoder(ids, output_hidden_states=True, return_dict=True)
            for encoder, ids in zip(self.encoders, token_ids.unbind(dim=1), strict=True)
        ]
        tokens = torch.cat([output.hidden_states[-2 - clip_skip] for output in outputs], dim=-1)
        return TextCondition(tokens, pooled=outputs[-1].text_embeds)

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str | None], device: torch.device, clip_skip: int | None = None
    ) -> TextCondition:
        """The text conditions of prompts; each distinct one is encoded once, independently of the others.

        Args:
            prompts: P of them; None is no prompt, which gives zeros with ``zero_empty``.
            device: device to encode on; offloaded weights do not show it.
            clip_skip: layers of the encoders that are left out at the end, as in image pipelines.
        """
        known: dict[str | None, TextCondition] = {}
        for prompt in prompts:
            if prompt not in known:
                ids = self.tokenize([prompt or ""]).to(device)
                known[prompt] = self(ids) if prompt is None else self.embed(ids, clip_skip or 0)
        return TextCondition.cat([known[prompt] for prompt in prompts])


def tokenize(tokenizers: Sequence[PreTrainedTokenizerBase], prompts: Sequence[str], length: int) -> Tensor:
    """Token ids (P, tokenizers, L).

    Args:
        tokenizers: one for each text encoder.
        prompts: P of them.
        length: L; each prompt is padded or truncated to it.
    """
    options: dict[str, Any] = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    ids = [each(_with_all_vectors(prompts, each), max_length=length, **options).input_ids for each in tokenizers]
    return torch.stack(ids, dim=1)


def _with_all_vectors(prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Prompts with all words of a textual inversion of several vectors (``<star> <star>_1 …``) in place of its name."""
    added = getattr(tokenizer, "added_tokens_encoder", {})
    if not any(word.endswith("_1") for word in added):
        return list(prompts)
    return cast(list[str], TextualInversionLoaderMixin().maybe_convert_prompt(list(prompts), tokenizer))


def _final_norm(encoder: nn.Module) -> nn.Module | None:
    """The normalisation after the last layer of a CLIP; None of another encoder."""
    inner = getattr(encoder, "text_model", encoder)
    return cast("nn.Module | None", getattr(inner, "final_layer_norm", None))


def vocabulary_words(tokenizer: PreTrainedTokenizerBase) -> list[str] | None:
    """The words in a small vocabulary, sorted; None for a large, general one, or one of characters alone."""
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) > SMALL_VOCABULARY:
        return None
    special = set(tokenizer.all_special_tokens)
    pieces = [entry for entry in vocabulary if entry not in special and entry.isalpha()]
    words = {entry for entry in pieces if len(entry) > 1}
    return sorted(words | {"a"}) if words else None  # of the single letters, "a" alone is a word


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, where: str | Path) -> None:
    """Refuse an empty tokenizer: transformers makes one if its files are missing.

    Args:
        tokenizer: as it was loaded.
        where: the folder or hub id that it was loaded from, for the message.

    Raises:
        ValueError: if it has special tokens only.
    """
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError(f"the tokenizer in {where} has no words: its files are missing or damaged; restore them")


def check_token_ids(tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, name: str = "tokenizer") -> None:
    """Refuse a tokenizer with token ids beyond the embeddings of its text encoder.

    Args:
        tokenizer: of the text encoder.
        encoder: the text encoder.
        name: the tokenizer's in its pipeline, for the message.

    Raises:
        ValueError: naming the first such token; or if the tokenizer has no padding token.
    """
    if tokenizer.pad_token is None:
        raise ValueError(f"the {name} has no padding token (pad_token), which is needed for batches")
    config: Any = encoder.config
    rows = int(config.vocab_size)
    beyond = [(number, token) for token, number in tokenizer.get_vocab().items() if number >= rows]
    if beyond:
        number, token = min(beyond)
        raise ValueError(
            f"the {name} does not belong to its text encoder: its token {token[:40]!r} has the id {number}, and the "
            f"encoder has embeddings for {rows} tokens (vocab_size)"
        )


def unknown_words(tokenizer: PreTrainedTokenizerBase, sentence: str) -> list[str]:
    """The words of a sentence that are not in a small vocabulary, in order; empty for a general vocabulary."""
    known = vocabulary_words(tokenizer)
    if known is None:
        return []
    separated = "".join(character if character.isalnum() else " " for character in sentence.lower())
    return [word for word in dict.fromkeys(separated.split()) if word not in known]
