"""The condition of a denoiser: embedded tokens, SDXL's pooled embedding and sizes, and pictures of IP-Adapters.

Knows no network and no encoder. Legend of shapes: B videos (one condition each), F frames, L tokens, D width of the
text encoders together, P width of the pooled embedding, n pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentshift.caption_embedding import CaptionEmbedding


@dataclass(frozen=True)
class TextCondition:
    """The conditions of B videos; all tensors have B rows.

    Attributes:
        tokens: (B, L, D), the embedding of each token; or (B, F, L, D), where each frame has a text of its own.
        pooled: (B, P), of each sentence; or (B, F, P). None if the text encoders have none.
        sizes: (B, 6) float32: height and width of the original, top and left of the crop, height and width that are
            wanted, in pixels (Podell et al. 2023, Sec. 2.2); None where they are not set.
        pictures: for each IP-Adapter in the U-Net (B, F, n, …), the embeddings of each frame's pictures.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    pictures: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        """B."""
        return len(self.tokens)

    @property
    def of_frames(self) -> bool:
        """Whether each frame has a text of its own."""
        return self.tokens.ndim == 4

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextCondition:
        """On a device, and embeddings in a dtype; sizes stay float32, since half precision rounds them."""
        moved = self._map(lambda each: each.to(device=device))
        pooled = None if moved.pooled is None else moved.pooled.to(dtype=dtype)
        pictures = tuple(each.to(dtype=dtype) for each in moved.pictures)
        return replace(moved, tokens=moved.tokens.to(dtype=dtype), pooled=pooled, pictures=pictures)

    def repeat(self, count: int) -> TextCondition:
        """Each row ``count`` times, one after the other: (B · count, …)."""
        return self._map(lambda each: each.unsqueeze(1).repeat(1, count, *[1] * (each.ndim - 1)).flatten(0, 1))

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

    def split_frames(self, size: int, num_frames: int) -> list[TextCondition]:
        """The conditions of each ``size`` frames of F; the last ones may have fewer."""
        return [self.of_some_frames(slice(at, at + size)) for at in range(0, num_frames, size)]

    def of_some_frames(self, frames: slice) -> TextCondition:
        """The conditions of some of the frames, which are of all if each has the same."""
        pictures = tuple(each[:, frames] for each in self.pictures)
        if not self.of_frames:
            return replace(self, pictures=pictures)
        pooled = None if self.pooled is None else self.pooled[:, frames]
        return replace(self, tokens=self.tokens[:, frames], pooled=pooled, pictures=pictures)

    def with_frames(self, num_frames: int) -> TextCondition:
        """The same text for each of F frames; itself, if they have texts of their own."""
        if self.of_frames:
            return self
        tokens = self.tokens.unsqueeze(1).repeat(1, num_frames, 1, 1)
        pooled = None if self.pooled is None else self.pooled.unsqueeze(1).repeat(1, num_frames, 1)
        return replace(self, tokens=tokens, pooled=pooled)

    def chunk(self, parts: int) -> list[TextCondition]:
        """Split into equal parts like ``Tensor.chunk``."""
        return self.split(-(-len(self) // parts))

    @staticmethod
    def cat(conditions: Sequence[TextCondition]) -> TextCondition:
        """Concatenate conditions of one kind.

        Raises:
            ValueError: if only some have a pooled embedding or sizes.
        """
        joined: dict[str, Any] = {}
        for name in ("tokens", "pooled", "sizes"):
            values = [getattr(each, name) for each in conditions]
            missing = [value is None for value in values]
            if any(missing) and not all(missing):
                raise ValueError(f"some of these conditions have {name}, and some have not")
            joined[name] = None if all(missing) else torch.cat(values)
        pictures = [each.pictures for each in conditions]
        return TextCondition(**joined, pictures=tuple(torch.cat(each) for each in zip(*pictures, strict=True)))

    def embeddings(self) -> list[CaptionEmbedding]:
        """The rows in numpy, float32, as encoded clips keep them; sizes are not in them."""
        tokens = self.tokens.float().cpu().numpy()
        pooled = None if self.pooled is None else self.pooled.float().cpu().numpy()
        return [CaptionEmbedding(row, None if pooled is None else pooled[at]) for at, row in enumerate(tokens)]

    @staticmethod
    def from_embeddings(rows: Sequence[CaptionEmbedding]) -> TextCondition:
        """The inverse of :meth:`embeddings`: float32 on the CPU, all rows with a pooled embedding or none."""
        tokens = torch.from_numpy(np.stack([row.tokens for row in rows])).float()
        pooled = [row.pooled for row in rows if row.pooled is not None]
        return TextCondition(tokens, torch.from_numpy(np.stack(pooled)).float() if pooled else None)

    def _map(self, function: Callable[[Tensor], Tensor]) -> TextCondition:
        pooled, sizes = (None if each is None else function(each) for each in (self.pooled, self.sizes))
        return TextCondition(function(self.tokens), pooled, sizes, tuple(map(function, self.pictures)))
