"""The text condition of a denoiser: embedded tokens, and SDXL's pooled embedding and sizes.

Knows no network and no encoder. Legend of shapes: B videos (one condition each), L tokens, D width of the text encoders
together, P width of the pooled embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class TextCondition:
    """The conditions of B videos; all tensors have B rows.

    Attributes:
        tokens: (B, L, D), the embedding of each token.
        pooled: (B, P), of each sentence; None if the text encoders have none.
        sizes: (B, 6) float32: height and width of the original, top and left of the crop, height and width that are
            wanted, in pixels (Podell et al. 2023, Sec. 2.2); None where they are not set.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.tokens)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextCondition:
        """On a device, and embeddings in a dtype; sizes stay float32, since half precision rounds them."""
        moved = self._map(lambda each: each.to(device=device))
        pooled = None if moved.pooled is None else moved.pooled.to(dtype=dtype)
        return replace(moved, tokens=moved.tokens.to(dtype=dtype), pooled=pooled)

    def repeat(self, count: int) -> TextCondition:
        """Each row ``count`` times, one after the other: (B · count, …)."""
        return self._map(lambda each: each.repeat_interleave(count, dim=0))

    def with_sizes(self, sizes: Sequence[float]) -> TextCondition:
        """The same sizes for every row."""
        return replace(self, sizes=self.tokens.new_tensor(sizes, dtype=torch.float32).expand(len(self), -1))

    def masked(self, rows: Tensor) -> TextCondition:
        """Embeddings that are zero in the given rows, (B,) bool: SDXL's condition without a caption."""
        pooled = None if self.pooled is None else self.pooled.masked_fill(rows[:, None], 0.0)
        return replace(self, tokens=self.tokens.masked_fill(rows[:, None, None], 0.0), pooled=pooled)

    def split(self, size: int) -> list[TextCondition]:
        """Parts of ``size`` rows; the last one may have fewer."""
        return [self._map(lambda each, at=at: each[at : at + size]) for at in range(0, len(self), size)]  # type: ignore[misc]

    def chunk(self, parts: int) -> list[TextCondition]:
        """Split into equal parts like ``Tensor.chunk``."""
        return self.split(-(-len(self) // parts))

    @staticmethod
    def cat(conditions: Sequence[TextCondition]) -> TextCondition:
        """Concatenate conditions of one kind.

        Raises:
            ValueError: if only some have a pooled embedding or sizes.
        """
        joined: dict[str, Tensor | None] = {}
        for name in ("tokens", "pooled", "sizes"):
            values = [getattr(each, name) for each in conditions]
            missing = [value is None for value in values]
            if any(missing) and not all(missing):
                raise ValueError(f"some of these conditions have {name}, and some have not")
            joined[name] = None if all(missing) else torch.cat(values)
        return TextCondition(**joined)  # type: ignore[arg-type]

    def pack(self) -> Tensor:
        """Embeddings as one tensor, as encoded clips keep them: (B, L, D), or with a pooled embedding (B, L + 1, D).

        The pooled embedding is the last row, with zeros behind it. Sizes are not in it.
        """
        if self.pooled is None:
            return self.tokens
        row = pad(self.pooled, (0, self.tokens.shape[-1] - self.pooled.shape[-1]))
        return torch.cat([self.tokens, row[:, None]], dim=1)

    @staticmethod
    def unpack(packed: Tensor, pooled_width: int | None) -> TextCondition:
        """The inverse of :meth:`pack`.

        Args:
            packed: (B, L, D), or (B, L + 1, D).
            pooled_width: P; None if there is no pooled embedding.
        """
        if pooled_width is None:
            return TextCondition(packed)
        return TextCondition(packed[:, :-1], packed[:, -1, :pooled_width])

    def _map(self, function: Callable[[Tensor], Tensor]) -> TextCondition:
        values = (None if each is None else function(each) for each in (self.tokens, self.pooled, self.sizes))
        return TextCondition(*values)  # type: ignore[arg-type]
