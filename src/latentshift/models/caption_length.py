"""How many captions are longer than a text encoder reads: their ends are cut off, and no error says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from latentshift.error_text import printable
from latentshift.models.text import SentenceEncoder

_MOST_OF_A_CAPTION = 120


@dataclass(frozen=True)
class CutCaptions:
    """Captions that are cut.

    Attributes:
        length: tokens that are read, the two that mark a caption's ends among them.
        total: captions.
        cut: how many of them have more.
        longest: tokens of the longest caption; 0 without captions.
        example: the first that is cut; empty if none is.
    """

    length: int
    total: int = 0
    cut: int = 0
    longest: int = 0
    example: str = ""

    def __str__(self) -> str:
        """A sentence without its end; empty if none is cut."""
        if not self.cut:
            return ""
        return (
            f"the model reads {self.length} tokens, and {self.cut} of {self.total} captions have more (up to "
            f"{self.longest}): their ends are cut off, as of {printable(repr(self.example), _MOST_OF_A_CAPTION)}"
        )


def count_cut(sentences: SentenceEncoder, captions: Iterable[str]) -> CutCaptions:
    """Count the captions that ``sentences`` cuts; of two tokenizers, the one that makes more tokens counts."""
    total = cut = longest = 0
    example = ""
    for caption in captions:
        count = token_count(sentences, caption)
        total += 1
        longest = max(longest, count)
        if count > sentences.length:
            cut += 1
            example = example or caption
    return CutCaptions(sentences.length, total, cut, longest, example)


def token_count(sentences: SentenceEncoder, sentence: str) -> int:
    """Tokens of a sentence that is not cut, the marks of its ends among them."""
    return max(len(each(sentence, truncation=False, verbose=False).input_ids) for each in sentences.tokenizers)
