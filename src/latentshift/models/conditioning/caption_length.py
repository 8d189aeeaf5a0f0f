"""Count captions that are longer than the text encoder's context, and so are truncated without an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from latentshift.models.conditioning.text import TextEncoders
from latentshift.user_input.error_text import printable

_MAX_SHOWN = 120


class HasTokenizers(Protocol):
    """Text encoders, of a pipeline or of an export."""

    tokenizers: list[PreTrainedTokenizerBase]


@dataclass(frozen=True)
class CutCaptions:
    """Statistics of truncated captions.

    Attributes:
        length: tokens that the encoder reads, start and end tokens included.
        total: number of captions.
        cut: how many are truncated.
        longest: tokens of the longest caption; 0 without captions.
        example: the first truncated caption; empty if there is none.
    """

    length: int
    total: int = 0
    cut: int = 0
    longest: int = 0
    example: str = ""

    def __str__(self) -> str:
        """A sentence without full stop; empty if none is truncated."""
        if not self.cut:
            return ""
        return (
            f"the model reads {self.length} tokens, and {self.cut} of {self.total} captions have more (up to "
            f"{self.longest}): their ends are cut off, as of {printable(repr(self.example), _MAX_SHOWN)}"
        )


def count_cut(text_encoders: TextEncoders, captions: Iterable[str]) -> CutCaptions:
    """Count the captions that ``text_encoders`` truncates; of two tokenizers, the one with more tokens counts."""
    total = cut = longest = 0
    example = ""
    for caption in captions:
        count = token_count(text_encoders, caption)
        total += 1
        longest = max(longest, count)
        if count > text_encoders.length:
            cut += 1
            example = example or caption
    return CutCaptions(text_encoders.length, total, cut, longest, example)


def token_count(text_encoders: HasTokenizers, sentence: str) -> int:
    """The number of tokens of a sentence without truncation, start and end tokens included."""
    return max(len(each(sentence, truncation=False, verbose=False).input_ids) for each in text_encoders.tokenizers)
