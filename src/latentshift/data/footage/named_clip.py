"""Read a clip that a user names: a video, an animation, a folder of frames, or one picture.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentshift.data.footage.animation import is_animation, read_animation
from latentshift.data.footage.image_file import read_image
from latentshift.data.footage.video_file import read_video
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.media import IMAGES, VIDEOS, is_mac_file
from latentshift.data.rejected import Rejected
from latentshift.files import missing_file
from latentshift.video.cut import Cut
from latentshift.video.frame_names import by_number


def check_named_clip(path: Path, start: float | None) -> None:
    """Refuse what is no clip, by its name and kind alone.

    Args:
        path: of a file or a folder.
        start: of the clip, in seconds; None for none, which a picture and a folder of frames take alone.

    Raises:
        ValueError: if there is nothing, a file of an unknown kind, a folder without frames or with videos, or a start
            of what has no times.
    """
    if path.is_dir():
        _frame_files(path)
        timed = False
    elif not path.is_file():
        raise ValueError(missing_file(path))
    elif path.suffix.lower() not in IMAGES | VIDEOS:
        raise ValueError(f"{path} is neither a video nor a picture by its name: give a .mp4, .gif, .webp, .png or such")
    else:
        timed = path.suffix.lower() in VIDEOS or is_animation(path)
    if start is not None and not timed:
        raise ValueError(f"{path} has no times, so that no start can be given: leave it out")


def read_named_clip(path: Path, frames: int, fps: float, cut: Cut, start: float | None = None) -> np.ndarray:
    """F frames of what :func:`check_named_clip` accepts.

    Of a video or an animation those on screen at moments 1 / fps apart, so that motion has its true speed; of a folder
    one a file, in the order of names, in which 2 is before 10; of a picture itself, in each.

    Args:
        path: of it.
        frames: F.
        fps: F frames cover F / fps seconds.
        cut: size and crop.
        start: of the first frame, in seconds; None: the beginning.

    Returns:
        uint8 RGB (F, H, W, 3); (1, H, W, 3) of a picture.

    Raises:
        ValueError: if it can't be used, or has too few frames.
    """
    try:
        if path.is_dir():
            files = _frame_files(path)
            if len(files) < frames:
                raise ValueError(f"{path} has {len(files)} frames, and the video {frames}: ask for fewer frames")
            return np.concatenate([_picture(file, cut) for file in files[:frames]])
        window = Window(frames, frames / fps, place="first")
        if is_animation(path):
            return read_animation(path, window, start or 0.0, cut)
        if path.suffix.lower() in IMAGES:
            return _picture(path, cut)
        row = Row(str(path), (), "", start=start)
        return read_video(row, window, cut, np.random.default_rng(0)).frames
    except Rejected as error:
        raise ValueError(f"{path} can't be used: {error}{_remedy(error, frames, fps)}") from None


def _picture(file: Path, cut: Cut) -> np.ndarray:
    try:
        return read_image(Row(str(file), (), ""), 1, cut).frames
    except Rejected as error:
        raise ValueError(f"{file} can't be used: {error}") from None


def _frame_files(folder: Path) -> list[Path]:
    files = [each for each in folder.iterdir() if each.is_file() and not is_mac_file(each.name)]
    files.sort(key=lambda file: by_number(file.name))
    frames = [each for each in files if each.suffix.lower() in IMAGES]
    if videos := [each.name for each in files if each.suffix.lower() in VIDEOS]:
        raise ValueError(f"{folder} has videos in it ({videos[0]}): name one of them, or a folder of frames")
    if not frames:
        raise ValueError(f"{folder} has no frames: give a video, or a folder of .png or .jpg files")
    return frames


def _remedy(error: Rejected, frames: int, fps: float) -> str:
    """What to do about a clip that is too short for F frames."""
    if error.kind != "too-short":
        return ""
    return f" ({frames} frames at {fps:g} a second): ask for fewer frames, or more a second"
