"""The option ``--keyframe PATH:FRAME[:STRENGTH]``, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentshift.models.storage.model_paths import read_video_size
from latentshift.settings import check_strength, frame_position
from latentshift.video.picture import read_picture

if TYPE_CHECKING:
    from PIL import Image

_FORM = "--keyframe is PATH:FRAME or PATH:FRAME:STRENGTH, as first.png:0 or last.png:-1:0.8"


@dataclass(frozen=True)
class KeyframeOption:
    """One ``--keyframe``.

    Attributes:
        path: of the picture.
        frame: that shows it; negative: from the end.
        strength: in [0, 1].
    """

    path: Path
    frame: int
    strength: float

    def __str__(self) -> str:
        return f"{self.path}:{self.frame}:{self.strength:g}"


def parse_keyframe(text: str) -> KeyframeOption:
    """Read one option from the right, since a path may hold colons.

    ``a:1:0`` may be frame 0 of the file ``a:1``, or frame 1 of ``a`` with strength 0: the file that exists decides.

    Raises:
        ValueError: if it has no frame, the strength is outside of [0, 1], or it can be read in two ways.
    """
    rest, _, last = text.rpartition(":")
    path, _, middle = rest.rpartition(":")
    readings = []
    if path and _is_whole(middle) and (strength := _number(last)) is not None:
        readings.append(KeyframeOption(Path(path), int(middle), strength))
    if rest and _is_whole(last):
        readings.append(KeyframeOption(Path(rest), int(last), 1.0))
    if not readings:
        raise ValueError(f"{_FORM}, not {text!r}")
    existing = [each for each in readings if each.path.exists()]
    if len(existing) > 1:
        raise ValueError(f"--keyframe {text} can be {' or '.join(map(str, existing))}: write the one that is meant")
    chosen = (existing or readings)[0]
    check_strength(chosen.strength, f"the strength of --keyframe {text}")
    return chosen


def read_keyframe_options(
    texts: Sequence[str], folder: Path | None, frames: int | None, height: int | None, width: int | None
) -> dict[str, Any]:
    """The arguments of a pipeline's call for the options.

    Args:
        texts: of all options.
        folder: of the model, whose number and size of frames are taken where none is asked for; None for a hub id.
        frames: that were asked for, or None.
        height: likewise, in pixels.
        width: likewise.

    Returns:
        ``keyframes`` and ``keyframe_strength``; nothing without options.

    Raises:
        ValueError: for an option that can't be read, a frame outside of the video or named twice, or a picture that
            is missing, can't be used, or is of another size than the frames.
    """
    if not texts:
        return {}
    own_frames, own_side = (None, None) if folder is None else read_video_size(folder)
    frames, height, width = frames or own_frames, height or own_side, width or own_side
    size = None if height is None or width is None else (height, width)
    pictures: dict[int, Image.Image] = {}
    strengths: dict[int, float] = {}
    named: set[int] = set()
    for option in map(parse_keyframe, texts):
        frame = option.frame if frames is None else frame_position(option.frame, frames, "--keyframe")
        if frame in named:
            raise ValueError(f"--keyframe names frame {frame} of the video twice: give it one picture")
        named.add(frame)
        pictures[option.frame] = read_picture(option.path, size, "the video's frames")
        strengths[option.frame] = option.strength
    return {"keyframes": pictures, "keyframe_strength": strengths}


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdecimal()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
