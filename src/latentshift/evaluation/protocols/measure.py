"""Measure one video: rows of each extractor, and the numbers that are of the video itself.

Legend of shapes: F frames, H and W pixels, R rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from latentshift.data.rejected import PASSING, Rejected
from latentshift.evaluation.extractors.known import COMPARED
from latentshift.evaluation.metrics.clip_similarity import clip_similarity, frame_consistency
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings_files import Reading

if TYPE_CHECKING:
    from latentshift.evaluation.extractors.extractor import Extractor

CLIPSIM, CONSISTENCY, MOTION = "CLIPSIM", "frame consistency", "amount of motion"
PSNR, SSIM = "PSNR", "SSIM"
Beside = Callable[[int, np.ndarray], Mapping[str, float]]  # numbers of a video beside its own true one
_KNOWN_PROMPTS = 4096


@dataclass(frozen=True)
class ExtractorInfo:
    """What the metrics and reports need to know of an extractor, without its network; see :class:`.Extractor`.

    Attributes:
        key: of its rows: its name, and with another output than its first one ``name:output``.
        per, output, width, resize: as of the extractor.
        warnings: sentences for every number that is made with it.
        network: of one that is known in several sizes, as CLIP's ``ViT-B/32``; empty for others.
    """

    key: str
    name: str
    sha256: str
    per: str
    output: str
    width: int
    resize: str
    warnings: tuple[str, ...] = ()
    network: str = ""

    @classmethod
    def of(cls, key: str, extractor: Extractor) -> ExtractorInfo:
        """Of an open extractor."""
        from latentshift.evaluation.extractors.extractor import extractor_warnings

        return cls(
            key,
            extractor.name,
            extractor.sha256,
            extractor.per,
            extractor.output,
            extractor.width,
            extractor.resize,
            extractor_warnings(extractor),
            getattr(extractor, "network_name", ""),
        )

    @property
    def compares(self) -> bool:
        """Whether its rows are compared with those of a reference."""
        return self.output in COMPARED


class Measurer:
    """Measures videos; a video's numbers depend on nothing but itself and its prompt.

    Args:
        extractors: by key (:class:`ExtractorInfo`).
        texts: whether prompts are measured against frames, where an extractor can.
        beside: of a video's index and pixels; None for videos without a true one each.
    """

    def __init__(
        self, extractors: Mapping[str, Extractor], *, texts: bool = True, beside: Beside | None = None
    ) -> None:
        self.extractors = dict(extractors)
        self.texts = texts
        self.beside = beside
        self._text = lru_cache(_KNOWN_PROMPTS)(self._embed)

    @property
    def infos(self) -> list[ExtractorInfo]:
        """Of its extractors."""
        return [ExtractorInfo.of(key, each) for key, each in self.extractors.items()]

    @property
    def widths(self) -> dict[str, int]:
        """D of each extractor, by key."""
        return {key: each.width for key, each in self.extractors.items()}

    def __call__(
        self, index: int, item: Item, video: np.ndarray | Rejected, file: str | None = None
    ) -> tuple[Reading, dict[str, np.ndarray]]:
        """The reading and the rows of a video.

        Args:
            index: of the video in the plan.
            item: of the plan.
            video: uint8 (F, H, W, 3), or why there is none.
            file: where the video lies, for the reading.
        """
        import torch

        if isinstance(video, Rejected):
            passing = video.kind in PASSING
            return Reading(index, item.prompt, item.seed, file=item.file, rejected=video.reason, passing=passing), {}
        rows: dict[str, np.ndarray] = {}
        values: dict[str, float] = {}
        if len(video) > 1:
            values[MOTION] = amount_of_motion(video)
        if self.beside is not None:
            values |= self.beside(index, video)
        batch = torch.from_numpy(np.ascontiguousarray(video))[None]
        for key, extractor in self.extractors.items():
            rows[key] = extractor(batch)[0]
            if extractor.output == "embeddings":
                values |= self._embedding_values(key, rows[key], item, video)
        count, height, width = video.shape[:3]
        return Reading(index, item.prompt, item.seed, count, height, width, values, file or item.file), rows

    def cut_prompts(self, items: Iterable[Item]) -> list[str]:
        """Sentences on prompts that are longer than an extractor of embeddings reads."""
        sentences = []
        prompts = {each.prompt for each in items if each.prompt}
        for key, extractor in self.extractors.items():
            is_cut = getattr(extractor, "is_cut", None)
            cut = sum(map(is_cut, prompts)) if is_cut is not None and self.texts else 0
            if cut:
                sentences.append(
                    f"{cut:,} of {len(prompts):,} prompts are longer than {key} reads: their ends are cut."
                )
        return sentences

    def _embedding_values(self, key: str, rows: np.ndarray, item: Item, video: np.ndarray) -> dict[str, float]:
        values = {}
        if len(video) > 1:
            values[CONSISTENCY] = frame_consistency(rows, video).consistency
        if self.texts and item.prompt:
            values[CLIPSIM] = clip_similarity(rows, self._text(key, item.prompt))
        return values

    def _embed(self, key: str, prompt: str) -> np.ndarray:
        embedder: Any = self.extractors[key]
        return embedder.text([prompt])[0]


def amount_of_motion(video: np.ndarray) -> float:
    """Mean over neighbouring frames, pixels and channels of the absolute difference, in levels 0 … 255.

    Args:
        video: uint8 (F, H, W, 3), F >= 2.
    """
    still = np.ones((len(video), 1))  # embeddings that say nothing: only the motion is asked for
    return frame_consistency(still, video).motion
