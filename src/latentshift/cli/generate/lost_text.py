"""Warnings about text that a model does not see."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.export.exported_pipeline import ExportedPipeline
    from latentshift.pipeline import LatentShiftPipeline


def warn_of_lost_text(pipeline: LatentShiftPipeline | ExportedPipeline, sentences: list[str]) -> None:
    """Print a warning for what a model does not see of the sentences: their ends, and words outside its vocabulary."""
    from latentshift.models.conditioning.caption_length import token_count
    from latentshift.models.conditioning.text import unknown_words, vocabulary_words

    length = pipeline.text_encoders.length
    for sentence in sentences:
        tokens = token_count(pipeline.text_encoders, sentence)
        if tokens > length:
            print(f"warning: the model reads {length} tokens, and this prompt has {tokens}: its end is cut off: "
                  f"{printable(sentence)}", file=sys.stderr)  # fmt: skip

    missing = list(dict.fromkeys(word for each in sentences for word in unknown_words(pipeline.tokenizer, each)))
    if missing:
        known = ", ".join(vocabulary_words(pipeline.tokenizer) or [])
        words = printable(", ".join(map(repr, missing)))
        print(f"warning: the model was not trained on {words}; its vocabulary: {known}", file=sys.stderr)
