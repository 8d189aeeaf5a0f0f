"""The embedding of a caption as a sample brings it, and as a shard keeps it: in one array.

Legend of shapes: L tokens, D width of the text encoders together, P width of the pooled embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class CaptionEmbedding:
    """A row of a :class:`latentshift.diffusion.condition.TextCondition`, in numpy.

    Attributes:
        tokens: (L, D), the embedding of each token.
        pooled: (P,), of the sentence; None if the text encoders have none.
    """

    tokens: np.ndarray
    pooled: np.ndarray | None = None

    def pack(self) -> np.ndarray:
        """One array: (L, D), or with a pooled embedding (L + 1, D), whose last row it is, with zeros behind it."""
        if self.pooled is None:
            return self.tokens
        row = np.zeros_like(self.tokens[:1])
        row[0, : len(self.pooled)] = self.pooled
        return np.concatenate([self.tokens, row])

    @staticmethod
    def unpack(packed: np.ndarray, pooled_width: int | None) -> CaptionEmbedding:
        """The inverse of :meth:`pack`, without a copy.

        Args:
            packed: (L, D), or (L + 1, D).
            pooled_width: P; None if there is no pooled embedding.
        """
        if pooled_width is None:
            return CaptionEmbedding(packed)
        return CaptionEmbedding(packed[:-1], packed[-1, :pooled_width])
