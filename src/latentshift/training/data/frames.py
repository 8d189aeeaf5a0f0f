"""Where stage (a) gets its frames: the endless sprites world, or sources of videos and images.

Legend of shapes: B frames of a batch, S side of a frame in pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from latentshift.data.dataset import FootageDataset
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.loader import Loader
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sources import parse_source
from latentshift.data.sprites import Sprites
from latentshift.training.data.datasets import replaced_clips, restore_replaced
from latentshift.training.data.source import list_rows, worker_limits
from latentshift.training.data.video_batches import video_batches
from latentshift.training.recipes.settings import FramesSettings, LoadingSettings
from latentshift.user_input.error_text import printable

_FIRST_UNSEEN = 2**40  # of the sprites' endless stream: training does not reach it


@dataclass(frozen=True)
class Frames:
    """Frames of one step.

    Attributes:
        pixels: uint8 RGB (B, S, S, 3).
        places: of each frame, from which its noise is drawn.
        names: of the frames, for reports.
    """

    pixels: np.ndarray
    places: Sequence[tuple[int, ...]]
    names: Callable[[], list[str]]


class FrameData(Protocol):
    """Frames for training and for previews."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Of the data, by name; a checkpoint is resumed only with the same."""

    def batches(self, step: int) -> Generator[Frames]:
        """This process's share of the frames of each step, from ``step`` (1, 2, …) on, endlessly."""

    def preview(self, count: int) -> Iterator[np.ndarray]:
        """The same ``count`` frames each time, uint8 (S, S, 3)."""

    def describe(self) -> dict[str, Any]:
        """What is used and what is not, as JSON values."""

    def summary_lines(self) -> list[str]:
        """The same in short, a line for each source."""

    def issues(self) -> dict[str, list[Any]]:
        """What was met in the data so far: under each heading names, or dicts with a ``name``."""


@dataclass(frozen=True)
class FramesContext:
    """What frames are opened with.

    Attributes:
        output: the run's folder, for what is listed.
        batch_size: frames a step, over all processes.
        loading: how videos and images are read.
        seed: of the order and of every draw.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1; rank 0 lists the sources.
        ranks: how many processes share each batch.
    """

    output: Path
    batch_size: int
    loading: LoadingSettings
    seed: int
    rank: int = 0
    ranks: int = 1


def open_frames(data: FramesSettings, context: FramesContext) -> FrameData:
    """The frames that a recipe names.

    Raises:
        ValueError: for a source that can't be read or holds nothing of use.
    """
    return SourceFrames(data, context) if data.sources else SpriteFrames(data, context)


class SpriteFrames:
    """Frames of the sprites world, each drawn for its place in the run and never again."""

    digests: Mapping[str, str] = {}

    def __init__(self, data: FramesSettings, context: FramesContext) -> None:
        self._sprites = Sprites(size=data.size, seed=data.seed)
        self._batch_size, self._rank = context.batch_size, context.rank
        self._share = context.batch_size // context.ranks

    def batches(self, step: int) -> Generator[Frames]:
        for number in itertools.count(step - 1):
            first = number * self._batch_size + self._rank * self._share
            indices = range(first, first + self._share)
            yield Frames(
                np.stack([self._sprites.frame(index)[0] for index in indices]),
                [(0, index) for index in indices],
                lambda indices=indices: [f"sprites {index}" for index in indices],  # type: ignore[misc]
            )

    def preview(self, count: int) -> Iterator[np.ndarray]:
        return (self._sprites.frame(index)[0] for index in range(_FIRST_UNSEEN, _FIRST_UNSEEN + count))

    def describe(self) -> dict[str, Any]:
        return {"sources": [{"source": "sprites", "refused": []}]}

    def summary_lines(self) -> list[str]:
        return []

    def issues(self) -> dict[str, list[Any]]:
        return {}


class SourceFrames:
    """One frame of each video, at a random time, and each image, in an order that is shuffled anew in every epoch.

    Captions are not needed.
    """

    def __init__(self, data: FramesSettings, context: FramesContext) -> None:
        self._names = [each.source for each in data.sources]
        self._datasets: list[FootageDataset] = []
        self._rejected: list[RejectedList] = []
        self.digests: dict[str, str] = {}
        for number, each in enumerate(data.sources, 1):
            folder = context.output / "footage" / (str(number) if len(data.sources) > 1 else "")
            source = parse_source(each.source, each.options)
            manifest, rejected = list_rows(folder, source, write=context.rank == 0, captioned=False)
            framing = Framing(data.size, data.size, each.crop, each.flip)
            self._datasets.append(FootageDataset(manifest, Window(frames=1), framing))
            self._rejected.append(rejected)
            self.digests[f"data {number}"] = manifest.digest
        self._weights = [each.weight for each in data.sources]
        self._limits = worker_limits(context.loading) if context.loading.workers else None
        self._seed, batches = context.seed, video_batches(context.batch_size, 1)
        self._loader = Loader(
            self._datasets, batches, self._seed, self._weights, context.rank, context.ranks, self._limits
        )
        restore_replaced(self._loader, context.output, "replaced")

    def batches(self, step: int) -> Generator[Frames]:
        with closing(self._loader.batches(step)) as batches:
            for batch in batches:
                yield Frames(
                    np.concatenate([sample.content for sample in batch.samples]),
                    batch.places,
                    lambda batch=batch: [each.name for each in batch.requests],  # type: ignore[misc]
                )

    def preview(self, count: int) -> Iterator[np.ndarray]:
        # In another order than training's.
        loader = Loader(self._datasets, video_batches(1, 1), self._seed + 1, self._weights, limits=self._limits)
        with closing(loader.batches(1)) as batches:
            for batch in itertools.islice(batches, count):
                yield batch.samples[0].content[0]

    def describe(self) -> dict[str, Any]:
        return {
            "sources": [
                {"source": source, **self._counts(frames), "refused": [vars(each) for each in rejected]}
                for source, frames, rejected in zip(self._names, self._datasets, self._rejected, strict=True)
            ]
        }

    def summary_lines(self) -> list[str]:
        lines = []
        for source, frames, rejected in zip(self._names, self._datasets, self._rejected, strict=True):
            counts = {**self._counts(frames), "refused": sum(1 for _ in rejected)}
            lines.append(f"{printable(source)}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
        return lines

    def issues(self) -> dict[str, list[Any]]:
        return {"replaced": replaced_clips(self._loader), "short": []}

    @staticmethod
    def _counts(frames: FootageDataset) -> dict[str, int]:
        return {"clips": frames.size(1) - frames.images, "images": frames.images}
