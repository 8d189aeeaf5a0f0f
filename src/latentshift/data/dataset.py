"""Sets of captioned clips to learn from: footage decoded anew each time, or shards of what was encoded once.

Both give requests, which are small and can be sent to another process, and a request gives a sample. Legend of shapes:
F frames, H × W pixels, C latent channels, h × w latent pixels, L tokens, D width of the text encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from latentshift.data.footage.decode import read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Manifest, Row
from latentshift.data.sample_order import Choices


@dataclass(slots=True)
class Sample:
    """A clip, or an image (F = 1), and what is said of it.

    Attributes:
        content: frames, uint8 RGB (F, H, W, 3), or moments of latents, float16 (F, 2C, h, w).
        caption: one sentence.
        text: its embedding (L, D) float16, where it was encoded.
        empty: likewise that of the empty caption.
        short: whether the video was shorter than the window.
    """

    content: np.ndarray
    caption: str
    text: np.ndarray | None = None
    empty: np.ndarray | None = None
    short: bool = False


class Request(Protocol):
    """One sample, not yet read."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def read(self) -> Sample:
        """Read it.

        Raises:
            Rejected: if it can't be used.
        """


class ClipDataset(Protocol):
    """Captioned clips, by number."""

    @property
    def encoded(self) -> bool:
        """Whether samples hold moments instead of frames."""

    def size(self, num_frames: int) -> int:
        """How many samples of so many frames there are."""

    @property
    def images(self) -> int:
        """How many of the single frames are images."""

    def caption(self, num_frames: int, index: int) -> str:
        """What is said of sample ``index`` of so many frames; of several captions the first."""

    def ask(self, num_frames: int, index: int, place: tuple[int, ...]) -> Request:
        """For sample ``index`` of so many frames; all that is drawn for it is drawn from ``rng_for(*place)``."""


class FootageDataset:
    """The rows of a manifest, decoded each time they are asked for.

    Args:
        manifest: the rows.
        window: how clips are taken.
        framing: the shape of their frames.
        still_share: how many of the single frames of videos are their window's first, captioned as the clip.
    """

    encoded = False

    def __init__(self, manifest: Manifest, window: Window, framing: Framing, still_share: float = 0.0) -> None:
        self.manifest = manifest
        self.window = window
        self.framing = framing
        self.still_share = still_share
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

    def ask(self, num_frames: int, index: int, place: tuple[int, ...]) -> FootageRequest:
        row = self.manifest[int(self._order[index])]
        return FootageRequest(row, self.window, self.framing, num_frames, place, self.still_share)


@dataclass(frozen=True)
class FootageRequest:
    """One clip, or one frame of it, to be decoded."""

    row: Row
    window: Window
    framing: Framing
    num_frames: int
    draws: tuple[int, ...]
    still_share: float

    @property
    def name(self) -> str:
        return self.row.name

    def read(self) -> Sample:
        choices = Choices(self.draws)
        window, frames = self.window, self.window.frames
        first, told = choose_frames(choices, frames, self.num_frames, self.still_share)
        captions = self.row.captions + self.row.image_captions
        caption = captions[choose_caption(choices, len(self.row.captions), len(captions), told)]
        if 1 < self.num_frames < frames:  # as many frames of the window as are asked for, at its speed
            window = replace(window, frames=self.num_frames, seconds=window.seconds * self.num_frames / frames)
        only = first if self.num_frames == 1 else None
        clip = read_clip(self.row, window, self.framing, choices.rng, only)
        return Sample(clip.frames, caption, short=clip.short)


def choose_frames(choices: Choices, available: int, wanted: int, still_share: float) -> tuple[int, bool]:
    """Which frame of a clip comes first, and whether the clip's own caption tells of it.

    An image whose caption tells of a motion is where that motion begins: else single frames would give no reason to
    tell "left" from "right", and clips later would find the two words the same.
    """
    told = wanted > 1 or choices.happens(still_share)
    latest = 0 if wanted == 1 and told else available - wanted
    return choices.among(latest + 1), told


def choose_caption(choices: Choices, captions: int, all_captions: int, told: bool) -> int:
    """Which caption, of so many of clips and then those of images, in all ``all_captions``."""
    if told or all_captions == captions:
        return choices.among(captions)
    return captions + choices.among(all_captions - captions)


def first_caption(row: Row, num_frames: int) -> str:
    """The first caption of a row's clips, or of its single frames."""
    return (row.image_captions if num_frames == 1 and row.image_captions else row.captions)[0]
