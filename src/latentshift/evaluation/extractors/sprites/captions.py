"""The pair of encoders of ``sprites-text``: a frame and a caption that says what it shows have a cosine near 1.

The frame's side is a linear map of the hidden state of ``sprites-frames``. A caption is a bag of the words of the
sprites world; others are passed over. A frame shows no motion, and the training gives captions any motion or none, so
that words of motion count for nothing.

Legend of shapes: N frames, P captions, W words of the world, H hidden state of ``sprites-frames``, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize


@dataclass(frozen=True)
class CaptionConfig:
    """What the pair is built from; its JSON lies beside the weights.

    Attributes:
        words: of the world, in the order of their vectors.
        hidden: H.
        width: D.
        frames_sha256: of the weights of ``sprites-frames`` that it was trained with, and works with.
    """

    words: Sequence[str]
    hidden: int
    width: int
    frames_sha256: str


class CaptionNetwork(nn.Module):
    """Hidden states and captions -> embeddings in one space."""

    SCALE = 16.0  # of cosines in the loss

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        self.config = config
        self.frame = nn.Linear(config.hidden, config.width)
        self.word = nn.Linear(len(config.words), config.width)
        self.caption = nn.Linear(config.width, config.width)

    def count_words(self, captions: Sequence[str]) -> Tensor:
        """How often each word is in each caption, float32 (P, W); words that the world does not know are left out."""
        index = {word: number for number, word in enumerate(self.config.words)}
        counts = torch.zeros(len(captions), len(index))
        for row, caption in enumerate(captions):
            for word in caption.lower().replace(".", " ").replace(",", " ").split():
                if word in index:
                    counts[row, index[word]] += 1
        return counts

    def text(self, counts: Tensor) -> Tensor:
        """Embeddings (P, D), not normalized, of what :meth:`count_words` gives."""
        return self.caption(self.word(counts).relu())

    def loss(self, hidden: Tensor, counts: Tensor, right: Tensor) -> Tensor:
        """Cross-entropy of the right caption among all that were given.

        Args:
            hidden: (N, H).
            counts: (P, W).
            right: index of each frame's caption, (N,).
        """
        cosine = normalize(self.frame(hidden), dim=1) @ normalize(self.text(counts), dim=1).T
        return cross_entropy(self.SCALE * cosine, right)
