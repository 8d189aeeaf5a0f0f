"""Read clips from files.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from latentshift.video.frame_names import by_number
from latentshift.video.main_stream import main_stream
from latentshift.video.metadata import DEFAULT_FPS, IMAGES, RECORD, read_text, reason, recorded
from latentshift.video.packets import decode_packet
from latentshift.video.pixels import accurate_interpolation

T = TypeVar("T")


def read_video(path: str | os.PathLike[str]) -> tuple[np.ndarray, float]:
    """All frames of a file or folder of frames, uint8 RGB (F, H, W, 3), upright, and frames per second.

    The frames of a folder are its .png files in the order of their names, in which 2 is before 10.
    Whatever :func:`write_video` writes comes back with all its frames. Other videos that FFmpeg knows are read as well,
    as they are: frames that last longer than others count once. Where nothing says how fast it plays, it is 8.

    Raises:
        FileNotFoundError: where there is nothing.
        ValueError: for what can't be decoded.
    """
    return _decode(path, _read_frames)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata :func:`write_video` was given, as JSON returns it; ``{}`` for a file that holds no JSON object.

    Raises:
        FileNotFoundError: where there is nothing.
        ValueError: for what can't be decoded.
    """
    metadata = _decode(path, read_text)
    return {key: value for key, value in metadata.items() if key != RECORD}


def _decode(path: str | os.PathLike[str], read: Callable[[Path], T]) -> T:
    source = Path(path).resolve()  # absolute, so that FFmpeg does not take "a:b.mp4" for a URL
    if not source.exists():
        raise FileNotFoundError(f"{path} does not exist: name a video, an image or a folder of frames")
    try:
        return read(source)
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise ValueError(f"{path} can't be decoded as a clip: {reason(error)}") from error


def _read_frames(path: Path) -> tuple[np.ndarray, float]:
    if path.is_dir():
        names = sorted((file.name for file in path.glob("*.png")), key=by_number)
        frames = [_read_image(path / name)[0][0] for name in names if not name.startswith(".")]
        return _stack(frames), recorded(read_text(path))[0]
    if path.suffix.lower() in IMAGES:
        return _read_image(path)
    import av

    with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
        stream = main_stream(container)
        if stream is None:
            raise ValueError("it holds no video")
        how: dict[str, Any] = {"format": "rgb24", "interpolation": accurate_interpolation(), "threads": 1}
        decoded = (frame for packet in container.demux(stream) for frame in decode_packet(packet))
        frames = [np.rot90(frame.to_ndarray(**how), frame.rotation // 90) for frame in decoded]
        return _stack(frames), float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def _read_image(path: Path) -> tuple[np.ndarray, float]:
    from PIL import Image, ImageSequence

    frames: list[np.ndarray] = []
    durations: list[float] = []  # ms
    with Image.open(path) as image:
        for picture in ImageSequence.Iterator(image):
            frames.append(np.asarray(picture.convert("RGB")))
            durations.append(picture.info.get("duration", 0))
    fps, num_frames = recorded(read_text(path))
    seconds = sum(durations) / 1000
    # Equal frames in a row were merged into a longer one: how often each stands, if the record is of this very file.
    ends = np.rint(np.cumsum(durations) * fps / 1000).astype(int) if seconds else np.array([num_frames])
    counts = np.diff(ends, prepend=0)
    if len(counts) == len(frames) and counts.min() > 0 and counts.sum() == num_frames:
        return np.repeat(_stack(frames), counts, axis=0), fps
    return _stack(frames), len(frames) / seconds if seconds else float(DEFAULT_FPS)


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    if len({frame.shape for frame in frames}) != 1:
        raise ValueError("its frames differ in size" if frames else "it holds no frames")
    return np.stack(frames)
