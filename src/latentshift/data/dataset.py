"""Datasets of captioned clips: videos decoded on every read, or shards of encoded latents.

A dataset makes requests, which are small and can be pickled; reading a request gives a sample. Legend of shapes: F
frames, H × W pixels, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from latentshift.caption_embedding import CaptionEmbedding
from latentshift.data.footage.decode import read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Manifest, Row
from latentshift.data.sample_order import LazyRng


@dataclass(slots=True)
class Sample:
    """A clip, or an image (F = 1), with its caption.

    Attributes:
        content: frames, uint8 RGB (F, H, W, 3), or moments of latents, float16 (F, 2C, h, w).
        caption: one sentence.
        text: embedding of the caption, float16, if text was encoded.
        empty: of the empty caption, likewise.
        short: whether the video was shorter than the window.
    """

    content: np.ndarray
    caption: str
    text: CaptionEmbedding | None = None
    empty: CaptionEmbedding | None = None
    short: bool = False

    def subsampled(self, count: int) -> Sample:
        """``count`` of its frames, evenly spread from the first to the last; all of them if it has no more."""
        frames = len(self.content)
        if count >= frames:
            return self
        return replace(self, content=self.content[np.rint(np.linspace(0, frames - 1, count)).astype(int)])


class Request(Protocol):
    """A sample that has not been read yet."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    def read(self) -> Sample:
        """The sample.

        Raises:
            Rejected: if it can't be used.
        """


class ClipDataset(Protocol):
    """A dataset of captioned clips, by index."""

    @property
    def encoded(self) -> bool:
        """Whether samples hold latent moments instead of frames."""

    def size(self, num_frames: int) -> int:
        """The number of samples of ``num_frames`` frames."""

    @property
    def images(self) -> int:
        """How many of the single-frame samples are images."""

    def caption(self, num_frames: int, index: int) -> str:
        """The (first) caption of sample ``index`` among those of ``num_frames`` frames."""

    def request(self, num_frames: int, index: int, place: tuple[int, ...]) -> Request:
        """A request for sample ``index`` of ``num_frames`` frames, with the random stream ``rng_for(*place)``."""


class FootageDataset:
    """The rows of a manifest, decoded on every read.

    Args:
        manifest: the rows.
        window: of frames taken from each video.
        framing: size and crop of the frames.
        first_frame_share: share of single frames of videos that are the first of their window, with the clip's caption.
    """

    encoded = False

    def __init__(self, manifest: Manifest, window: Window, framing: Framing, first_frame_share: float = 0.0) -> None:
        self.manifest = manifest
        self.window = window
        self.framing = framing
        self.first_frame_share = first_frame_share
        pictures = np.fromiter((row.is_image for row in manifest), bool, len(manifest))
        self._order = np.argsort(pictures, kind="stable")  # videos first
        self._videos = int((~pictures).sum())

    def size(self, num_frames: int) -> int:
        if num_frames == 1:
            return len(self._order)
        return self._videos if num_frames <= self.window.frames else 0

    @property
    def images(self) -> int:
        return len(self._order) - self._videos

    def caption(self, num_frames: int, index: int) -> str:
        return first_caption(self.manifest[int(self._order[index])], num_frames)

    def request(self, num_frames: int, index: int, place: tuple[int, ...]) -> FootageRequest:
        row = self.manifest[int(self._order[index])]
        return FootageRequest(row, self.window, self.framing, num_frames, place, self.first_frame_share)


@dataclass(frozen=True)
class FootageRequest:
    """A request to decode a clip, or one frame of it."""

    row: Row
    window: Window
    framing: Framing
    num_frames: int
    rng_key: tuple[int, ...]
    first_frame_share: float

    @property
    def name(self) -> str:
        return self.row.name

    def read(self) -> Sample:
        rng = LazyRng(self.rng_key)
        window, frames = self.window, self.window.frames
        first, clip_caption = choose_frames(rng, frames, self.num_frames, self.first_frame_share)
        captions = self.row.captions + self.row.image_captions
        caption = captions[choose_caption(rng, len(self.row.captions), len(captions), clip_caption)]
        if 1 < self.num_frames < frames:  # fewer frames at the same frame rate
            window = replace(window, frames=self.num_frames, seconds=window.seconds * self.num_frames / frames)
        only = first if self.num_frames == 1 else None
        clip = read_clip(self.row, window, self.framing, rng.generator, only)
        return Sample(clip.frames, caption, short=clip.short)


def choose_frames(rng: LazyRng, available: int, wanted: int, first_frame_share: float) -> tuple[int, bool]:
    """The first frame to take, and whether the clip's own caption goes with it.

    A single frame with a clip's caption is the first of the clip, where the motion begins. Otherwise an image model
    could not tell "left" from "right" and would map both words to one embedding, which a video model cannot undo.

    Args:
        rng: of the sample.
        available: frames of the clip.
        wanted: frames of the sample, 1 … ``available``.
        first_frame_share: in [0, 1], of single frames with the clip's caption.
    """
    clip_caption = wanted > 1 or rng.bernoulli(first_frame_share)
    latest = 0 if wanted == 1 and clip_caption else available - wanted
    return rng.below(latest + 1), clip_caption


def choose_caption(rng: LazyRng, captions: int, all_captions: int, clip_caption: bool) -> int:
    """The index of the caption to use: the clip's ``captions`` come first, then the image captions.

    Args:
        rng: of the sample.
        captions: how many the clip has, 1 or more.
        all_captions: how many there are with those of its images.
        clip_caption: whether it must be one of the clip's.
    """
    if clip_caption or all_captions == captions:
        return rng.below(captions)
    return captions + rng.below(all_captions - captions)


def first_caption(row: Row, num_frames: int) -> str:
    """The first caption of a row: of the clip, or of single frames."""
    return (row.image_captions if num_frames == 1 and row.image_captions else row.captions)[0]
