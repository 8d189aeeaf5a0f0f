"""Frames spread evenly over a whole clip: of a video or an animation by the times of its frames, of a folder by number.

What would be converted wrongly is refused, as by :mod:`.video_file` and :mod:`.image_file`.
Legend of shapes: N frames of the clip, F frames that are taken, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentshift.data.footage.animation import shown_milliseconds
from latentshift.data.footage.clip import MAX_PIXELS
from latentshift.data.footage.image_file import read_image, resize_picture
from latentshift.data.footage.timeline import GIF_ROUNDING
from latentshift.data.footage.video_file import chosen_frames
from latentshift.data.manifest import Row
from latentshift.data.media import IMAGES, VIDEOS, is_mac_file
from latentshift.data.rejected import Rejected, require_file
from latentshift.video.frame_names import by_number
from latentshift.video.metadata import DEFAULT_FPS, read_text, reason, recorded

STILLS = IMAGES - {".webp"}  # pictures of which a folder is a clip; a .webp may be an animation
Choose = Callable[[np.ndarray], np.ndarray]  # when each frame ends, (N,) s, -> indices, int (F,)
_ROUNDING = 0.1  # of a frame: how far times may be from even ones that a file has rounded


@dataclass(frozen=True)
class Spread:
    """Which frames of a clip are taken.

    Attributes:
        frames: F, evenly spaced over the time.
        seconds: from the beginning of the clip that they are taken from; None: the whole clip.
    """

    frames: int
    seconds: float | None = None

    def choose(self, ends: np.ndarray) -> np.ndarray:
        """Indices of the frames, int (F,), increasing, for frames that end at ``ends``, (N,) seconds from the start.

        At a constant rate they are chosen by number, which no rounding of times moves; else those on screen at F even
        moments. A frame that lasts as long as several of the shortest counts as so many, since writers merge equal
        frames into one.

        Raises:
            Rejected: if there are fewer than F frames in that time, or it lasts less than the seconds.
        """
        lasts = float(ends[-1])
        unit, regular = _unit_of(ends)
        span = lasts if self.seconds is None else self.seconds
        if round(span / unit) > round(lasts / unit):
            raise Rejected("too-short", f"it lasts {lasts:.2f} s, and {span:g} s are taken of each clip")
        count = round(span / unit)
        if count < self.frames:
            within = "" if self.seconds is None else f" in its first {self.seconds:g} s"
            plural = "" if count == 1 else "s"
            raise Rejected(
                "too-short", f"it has {count} frame{plural}{within}, and {self.frames} are taken of each clip"
            )
        if regular:
            return np.arange(self.frames) * count // self.frames
        moments = np.arange(self.frames) * (span / self.frames) + _ROUNDING * unit
        return np.minimum(np.searchsorted(ends, moments, side="right"), len(ends) - 1)


@dataclass(frozen=True)
class Strip:
    """Frames from the first to the last one, evenly spaced over the time, of a clip of any length.

    Attributes:
        frames: the most of them; None: all, at the clip's rate.
    """

    frames: int | None = None

    def choose(self, ends: np.ndarray) -> np.ndarray:
        """Indices of the frames, as :meth:`Spread.choose` finds them; what is shown for longer may be there again."""
        unit, regular = _unit_of(ends)
        count = _count(ends, unit)
        shown = count if self.frames is None else min(self.frames, count)
        places = np.rint(np.linspace(0, count - 1, shown)).astype(int)
        if regular:
            return places
        return np.minimum(np.searchsorted(ends, (places + _ROUNDING) * unit, side="right"), len(ends) - 1)


@dataclass(frozen=True)
class ReadStrip:
    """What a :class:`Strip` shows of a clip.

    Attributes:
        frames: uint8 RGB (F, H, W, 3), upright and with square pixels.
        count: N at the clip's rate, of which ``frames`` are some or all.
        seconds: that the clip lasts.
    """

    frames: np.ndarray
    count: int
    seconds: float


def _unit_of(ends: np.ndarray) -> tuple[float, bool]:
    """How long a frame lasts in seconds, or the shortest at a variable rate; and whether all last as long."""
    mean = float(ends[-1]) / len(ends)
    even = np.arange(1, len(ends) + 1) * mean
    if (np.abs(ends - even) <= max(_ROUNDING * mean, min(GIF_ROUNDING, mean / 4))).all():
        return mean, True
    return max(float(np.diff(ends, prepend=0.0).min()), mean / 100), False


def _count(ends: np.ndarray, unit: float) -> int:
    return max(1, round(float(ends[-1]) / unit))


def read_spread(path: Path, spread: Spread) -> np.ndarray:
    """The frames of a video, an animation, a picture, or a folder of pictures, uint8 RGB (F, H, W, 3), upright.

    Raises:
        Rejected: if it can't be used; the reason says why.
    """
    return _read(path, spread.choose)


def read_strip(path: Path, strip: Strip) -> ReadStrip:
    """The same for a strip.

    Raises:
        Rejected: as :func:`read_spread`.
    """
    times: list[np.ndarray] = []

    def choose(ends: np.ndarray) -> np.ndarray:
        times.append(ends)
        return strip.choose(ends)

    frames = _read(path, choose)
    ends = times[-1]
    return ReadStrip(frames, _count(ends, _unit_of(ends)[0]), float(ends[-1]))


def _read(path: Path, choose: Choose) -> np.ndarray:
    if path.is_dir():
        return _of_folder(path, choose)
    require_file(str(path))
    if path.suffix.lower() in VIDEOS - {".gif"}:
        return chosen_frames(Row(str(path), (), ""), choose)
    return _of_picture(path, choose)


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names, in which 2 is before 10."""
    files = [each for each in folder.iterdir() if each.suffix.lower() in STILLS and not is_mac_file(each.name)]
    return sorted((each for each in files if not each.name.startswith(".")), key=lambda file: by_number(file.name))


def _of_folder(folder: Path, choose: Choose) -> np.ndarray:
    files = frame_files(folder)
    if not files:
        raise Rejected("damaged", "it holds no frames")
    try:
        fps = recorded(read_text(folder))[0]
    except (ValueError, OSError):
        fps = float(DEFAULT_FPS)
    chosen = choose(np.arange(1, len(files) + 1) / fps)
    made: list[np.ndarray] = []
    for index in chosen.tolist():
        try:
            made.append(read_image(Row(str(files[index]), (), ""), 1, None).frames[0])
        except Rejected as error:
            raise Rejected(error.kind, f"its frame {files[index].name} can't be used: {error}") from None
    return _stacked(made)


def _of_picture(path: Path, choose: Choose) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                return _of_animation(path, image, choose)
    except (Rejected, MemoryError):
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise Rejected("damaged", f"it can't be read as an image: {reason(error)}") from error
    fps, count = _record(path)
    picture = read_image(Row(str(path), (), ""), 1, None).frames[0]
    chosen = choose(np.arange(1, count + 1) / fps)  # equal frames that were merged into one
    return np.repeat(picture[None], len(chosen), axis=0)


def _of_animation(path: Path, image: object, choose: Choose) -> np.ndarray:
    from PIL import Image, ImageSequence

    assert isinstance(image, Image.Image)
    if image.width * image.height > MAX_PIXELS:
        raise Rejected("too-large", f"its frames are {image.width}x{image.height} pixels")
    milliseconds, frames = [], []
    for frame in ImageSequence.Iterator(image):
        frames.append(resize_picture(frame, None))
        milliseconds.append(shown_milliseconds(frame))
    ends = np.cumsum(milliseconds) / 1000
    fps, count = _record(path)
    shown = np.diff(np.rint(ends * fps).astype(int), prepend=0)
    if shown.min() > 0 and shown.sum() == count:  # the record is of this very file: how often each stands
        chosen = np.repeat(np.arange(len(frames)), shown)[choose(np.arange(1, count + 1) / fps)]
    else:
        chosen = choose(ends)
    return _stacked([frames[index] for index in chosen.tolist()])


def _record(path: Path) -> tuple[float, int]:
    """Frame rate and number of frames that latentshift wrote into a picture; (8, 1) where it did not."""
    try:
        fps, count = recorded(read_text(path))
    except (ValueError, OSError):
        return float(DEFAULT_FPS), 1
    return fps, max(count, 1)


def _stacked(frames: list[np.ndarray]) -> np.ndarray:
    if len({frame.shape for frame in frames}) != 1:
        raise Rejected("damaged", "its frames differ in size")
    return np.stack(frames)
