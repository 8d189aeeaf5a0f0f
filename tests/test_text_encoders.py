"""Text encoders and the tokenizer of tests."""

from __future__ import annotations

import torch

from latentshift.models.conditioning.text import TextEncoders, unknown_words, vocabulary_words
from tiny_models import tiny_bert, tiny_clip, tiny_tokenizer


def test_both_kinds_of_text_encoder_see_every_sentence_alone() -> None:
    for encoder in (tiny_bert(), tiny_clip()):
        text_encoders = TextEncoders([encoder], [tiny_tokenizer()])
        together = text_encoders.encode(["red star", "on", "red star"], torch.device("cpu"))
        assert together.tokens.shape == (3, 12, 16) and together.pooled is together.sizes is None
        assert torch.equal(together.tokens[0], together.tokens[2])
        assert torch.equal(together.tokens[1:2], text_encoders.encode(["on"], torch.device("cpu")).tokens)


def test_the_word_tokenizer_spells_what_it_does_not_know(tmp_path) -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.tokenize("Red STAR, zoo!") == ["red", "star", ",", "z", "##o", "##o", "!"]
    assert unknown_words(tokenizer, "a red zebra on a black zebra") == ["zebra"]
    assert vocabulary_words(tokenizer) == ["a", "background", "black", "circling", "on", "red", "star"]
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path).tokenize("red zoo") == ["red", "z", "##o", "##o"]
