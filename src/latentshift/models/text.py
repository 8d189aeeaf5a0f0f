"""Text on its way to the U-Net: sentence -> token ids -> embeddings, for every text encoder that is supported.

Knows nothing of images or video: one sentence is encoded once, however many frames it is for.
Legend of shapes: P sentences, L tokens, D width of the text encoder.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedTokenizerBase

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SMALL_VOCABULARY = 1000  # entries; above this a vocabulary is not worth listing


def build_word_tokenizer(words: Sequence[str], max_length: int) -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer that knows ``words`` whole and spells other words out, character by character.

    It is a stock ``BertTokenizer`` (the paper's text encoder is a BERT, Table 6), so a saved folder loads without us.
    The characters are ASCII's, and accents are taken off: a word in another script, or of more than 100 characters, is
    one ``[UNK]`` like any other.

    Args:
        words: the words to know whole, lower case.
        max_length: tokens a sentence is padded or cut to.
    """
    characters = sorted(set(string.printable.lower()) - set(string.whitespace))
    entries = [*SPECIAL_TOKENS, *words, *characters, *(f"##{character}" for character in characters)]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=max_length)


def sentence_length(text_encoder: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """L, the tokens of every sentence: what the encoder has positions for, or less if the tokenizer says so."""
    config: Any = text_encoder.config
    return min(int(config.max_position_embeddings), tokenizer.model_max_length)


def tokenize(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], length: int) -> Tensor:
    """Token ids (P, L), each row padded or cut to ``length``, as the image pipelines do."""
    return tokenizer(
        list(sentences), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


def encode_tokens(text_encoder: nn.Module, token_ids: Tensor) -> Tensor:
    """Embeddings (P, L, D) of token ids (P, L): the last hidden state, of an LDM-BERT or a CLIP text model alike."""
    output: Any = text_encoder(token_ids)
    return output[0]


@torch.no_grad()
def encode_prompts(
    text_encoder: nn.Module, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], device: torch.device
) -> Tensor:
    """Embeddings (P, L, D), each distinct sentence encoded once and by itself, so that none depends on its company.

    ``device`` is where the encoder works, which offloaded weights do not tell.
    """
    length = sentence_length(text_encoder, tokenizer)
    known: dict[str, Tensor] = {}
    for sentence in sentences:
        if sentence not in known:
            known[sentence] = encode_tokens(text_encoder, tokenize(tokenizer, [sentence], length).to(device))
    return torch.cat([known[sentence] for sentence in sentences])


def whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str] | None:
    """The words a small vocabulary knows whole, sorted; None for a large, general one, or one of characters alone."""
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) > SMALL_VOCABULARY:
        return None
    special = set(tokenizer.all_special_tokens)
    pieces = [entry for entry in vocabulary if entry not in special and entry.isalpha()]
    words = {entry for entry in pieces if len(entry) > 1}
    return sorted(words | {"a"}) if words else None  # of the single letters, "a" alone is a word


def unknown_words(tokenizer: PreTrainedTokenizerBase, sentence: str) -> list[str]:
    """The words of a sentence that a small vocabulary has to spell out, in order; empty for a general vocabulary."""
    known = whole_words(tokenizer)
    if known is None:
        return []
    separated = "".join(character if character.isalnum() else " " for character in sentence.lower())
    return [word for word in dict.fromkeys(separated.split()) if word not in known]
