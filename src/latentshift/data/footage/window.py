"""Which moments of a video a clip takes: F of them, evenly spaced over a window of some seconds.

By time and never by frame number, so that footage of any frame rate, and of a varying one, moves at its true speed.
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
    """How a clip is taken out of a video.

    Attributes:
        frames: F ≥ 1; 1 takes a single image.
        seconds: that the F frames span, each standing for seconds / F (the paper: 16 over 2 s).
        place: where the window lies in what there is.
        short: what becomes of a video that is shorter: ``"refuse"`` it, ``"hold"`` its last frame, or ``"shorten"`` the
            window to what there is (the motion is then slower than the rest's).
    """

    frames: int = 16
    seconds: float = 2.0
    place: Place = "random"
    short: Short = "refuse"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"a window takes 1 frame or more, not {self.frames}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"a window lasts a finite number of seconds above 0, not {self.seconds}")

    def moments(self, start: float, end: float, rng: np.random.Generator) -> np.ndarray:
        """The F moments, in seconds, (F,) float64, rising; between ``start`` and ``end`` unless the last is held.

        Args:
            start: where what there is begins.
            end: where it ends: when its last frame has been shown.
            rng: read once, whatever the place, so that other draws do not depend on it.

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
        """Whether there is as much as the window spans."""
        return self.frames == 1 or end - start - self.seconds >= -_SLACK * self.seconds / self.frames


# A file's own rounding of its times (48 frames of 33 ms for 1.6 s) is no reason to refuse it: a tenth of a frame.
_SLACK = 0.1
