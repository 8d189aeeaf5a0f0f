"""The time window of a clip: F evenly spaced moments over some seconds.

Sampled by time and never by frame number, so that motion has its true speed at any, even variable, frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from latentshift.data.rejected import Rejected

Place = Literal["random", "first", "centre"]
Short = Literal["refuse", "hold", "shorten"]
PLACES: tuple[Place, ...] = get_args(Place)
SHORT: tuple[Short, ...] = get_args(Short)


@dataclass(frozen=True)
class Window:
    """A time window.

    Attributes:
        frames: F ≥ 1; 1 takes a single image.
        seconds: duration that the F frames cover, seconds / F each (the paper: 16 over 2 s).
        place: position of the window in the video.
        short: for shorter videos: ``"refuse"`` them, ``"hold"`` the last frame, or ``"shorten"`` the window to the
            video (its motion is then slower than that of other clips).
    """

    frames: int = 16
    seconds: float = 2.0
    place: Place = "random"
    short: Short = "refuse"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"a window takes 1 frame or more, not {self.frames}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be a finite number above 0, the duration of a window, not {self.seconds:g}")

    def moments(self, start: float, end: float, rng: np.random.Generator) -> np.ndarray:
        """The F moments in seconds, (F,) float64, increasing; beyond ``end`` only if the last frame is held.

        Args:
            start: of the usable part of the video.
            end: of the usable part, with the duration of its last frame.
            rng: one draw is used whatever the position, so that other draws do not depend on it.

        Raises:
            Rejected: for a video that is too short.
        """
        share = {"random": rng.random(), "first": 0.0, "centre": 0.5}[self.place]
        if self.frames == 1:
            return np.array([start + share * (end - start)])
        length, room = self.seconds, end - start - self.seconds
        if not self.fits(start, end):
            if self.short == "refuse":
                raise Rejected("too-short", f"it lasts {end - start:.2f} s, and a clip takes {self.seconds:g} s")
            if self.short == "shorten":
                length = end - start
        first = start + share * max(room, 0.0)
        return first + np.arange(self.frames) * (length / self.frames)

    def fits(self, start: float, end: float) -> bool:
        """Whether the window fits into the video."""
        return self.frames == 1 or end - start - self.seconds >= -_SLACK * self.seconds / self.frames


# A file's own rounding of its times (48 frames of 33 ms for 1.6 s) must not reject it: a tenth of a frame.
_SLACK = 0.1
