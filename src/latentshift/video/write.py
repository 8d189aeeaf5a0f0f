"""Write clips to files atomically.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.files import atomic_write, check_writable
from latentshift.video.metadata import DEFAULT_FPS, EXIF_DESCRIPTION, encode, reason
from latentshift.video.pixels import accurate_interpolation
from latentshift.video.writer_thread import write_in_thread

MIN_FPS, MAX_FPS = 0.1, 240
BROWSER_MAX_FPS = {".gif": 50, ".webp": 90}  # browsers slow images down to 10 frames per second beyond this
CRF = "12"  # x264's constant quality: 0 lossless, 18 hard to tell from it, 51 worst


def check_output(path: str | os.PathLike[str], num_frames: int, *, fps: float = DEFAULT_FPS) -> None:
    """Check early what :func:`write_video` checks late: call this before an expensive generation.

    Writes nothing, and creates no folders.

    Raises:
        ValueError: for an unknown suffix, or a number of frames or a frame rate that this kind of file can't have.
        OSError: where the parent can't be created or written, the target is a folder in the way (a file, where frames
            are to be a folder), or this PyAV can't encode H.264. FileExistsError for a folder that isn't empty.
    """
    target = Path(path).resolve()
    suffix = target.suffix.lower()
    if suffix not in _WRITERS:
        known = ", ".join(kind for kind in _WRITERS if kind)
        raise ValueError(f"{path} has the unknown suffix {suffix}: use {known}, or no suffix for a folder of frames")
    if num_frames < 1 or (suffix == ".png" and num_frames != 1):
        allowed = "exactly one frame" if suffix == ".png" else "at least one frame"
        raise ValueError(f"{path} holds {allowed}, not {num_frames}: choose another suffix or number of frames")
    highest = BROWSER_MAX_FPS.get(suffix, MAX_FPS)
    if not MIN_FPS <= fps <= highest:
        raise ValueError(f"{path} can't have {fps} frames per second: choose from {MIN_FPS} to {highest}")
    if suffix and target.is_dir():
        raise IsADirectoryError(f"{path} is an existing folder: name a file, or leave out {suffix} to write frames")
    if not suffix and target.is_dir() and any(target.iterdir()):
        raise FileExistsError(f"the folder {path} exists and is not empty: name a new one for the frames")
    if not suffix and target.exists() and not target.is_dir():
        raise FileExistsError(f"{path} is an existing file: give the path a suffix, or name a folder for the frames")
    check_writable(Path(path))
    if suffix == ".mp4":
        import av

        try:
            av.Codec("libx264", "w")
        except ValueError as error:
            message = f"{path} can't be written, because this PyAV has no libx264: install PyPI's av, or use .webp"
            raise OSError(message) from error


def write_video(
    path: str | os.PathLike[str],
    frames: np.ndarray,
    *,
    fps: float = DEFAULT_FPS,
    metadata: Mapping[str, object] | None = None,
    loop: bool = False,
) -> None:
    """Write a clip; an existing file is replaced, and kept after a failure.

    The same frames and metadata give the same bytes (with the same versions of PyAV and Pillow).

    Args:
        path: where to; its suffix decides the kind of file. Missing parents are created.
        frames: uint8 RGB (F, H, W, 3); .mp4 takes even H and W only, .png a single frame.
        fps: frames per second. A .gif counts in 1/100 s, a .webp in 1/1000 s: no frame is off by more than half that.
        metadata: what JSON can say (prompt, seed, settings); the key "_video" is taken.
        loop: a .webp repeats forever instead of playing once. A .gif always does, and players decide for an .mp4.

    Raises:
        TypeError, ValueError: for frames, metadata or fps that can't be written, or an unknown suffix.
        OSError: where the file can't be written, for the reasons of :func:`check_output` or any other.
    """
    frames = np.asarray(frames)
    _check_frames(path, frames)
    check_output(path, len(frames), fps=fps)
    _write(path, [frames], len(frames), fps, encode(path, metadata or {}, fps, len(frames)), loop)


def write_chunks(
    path: str | os.PathLike[str],
    chunks: Iterable[np.ndarray],
    num_frames: int,
    *,
    fps: float = DEFAULT_FPS,
    metadata: Mapping[str, object] | None = None,
    loop: bool = False,
) -> None:
    """Write a clip whose frames come a few at a time; the file is the same as :func:`write_video`'s.

    An .mp4 and a folder of frames are written as the frames come, in a thread: a chunk is encoded while the next is
    made, and these two are in memory. A .gif, whose frames share a palette, and a .webp are written at the end.

    Args:
        path: as for :func:`write_video`.
        chunks: consecutive frames, uint8 RGB (n, H, W, 3) each, which are made in this thread. What raises here ends
            the writing, and is raised.
        num_frames: F, of all chunks.
        fps: as for :func:`write_video`.
        metadata: as for :func:`write_video`.
        loop: as for :func:`write_video`.

    Raises:
        TypeError, ValueError: as :func:`write_video`; also if the chunks hold other than ``num_frames`` frames, or
            frames of several sizes.
        OSError: as :func:`write_video`.
    """
    check_output(path, num_frames, fps=fps)
    text = encode(path, metadata or {}, fps, num_frames)

    def write(handed_over: Iterable[np.ndarray]) -> None:
        _write(path, handed_over, num_frames, fps, text, loop)

    if Path(path).resolve().suffix.lower() in _WRITTEN_AS_THEY_COME:
        write_in_thread(chunks, write)
    else:
        write(chunks)


def _write(
    path: str | os.PathLike[str],
    chunks: Iterable[np.ndarray],
    num_frames: int,
    fps: float,
    text: str,
    loop: bool,
) -> None:
    target = Path(path).resolve()
    suffix = target.suffix.lower()
    frames = _Frames(path, chunks, num_frames, even_size=suffix == ".mp4")
    try:
        with atomic_write(target) as temporary:
            _WRITERS[suffix](temporary, frames, fps, text, loop)
    except Exception as error:
        if error is frames.error:
            raise
        raise OSError(f"{path} could not be written: {reason(error)}") from error


def _check_frames(path: object, frames: np.ndarray) -> None:
    if frames.dtype != np.uint8:
        raise TypeError(f"{path} is written from uint8 frames, not {frames.dtype}: see to_uint8")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise ValueError(f"{path} is written from frames of shape (F, H, W, 3), not {frames.shape}")


class _Frames:
    """Checked frames (H, W, 3), one by one, of chunks that are made meanwhile.

    Attributes:
        error: of the chunks and not of the writing, if there was one.
    """

    def __init__(
        self, path: str | os.PathLike[str], chunks: Iterable[np.ndarray], num_frames: int, *, even_size: bool
    ) -> None:
        self.error: Exception | None = None
        self._even_size = even_size
        self._path = path
        self._chunks = chunks
        self._num_frames = num_frames

    def __len__(self) -> int:
        return self._num_frames

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            yield from self._checked()
        except Exception as error:
            self.error = error
            raise

    def _checked(self) -> Iterator[np.ndarray]:
        size, count = None, 0
        for chunk in self._chunks:
            _check_frames(self._path, chunk)
            height, width = chunk.shape[1:3]
            if self._even_size and (height % 2 or width % 2):
                raise ValueError(
                    f"{self._path} needs an even width and height, not {width}x{height}: crop the frames or use .webp"
                )
            if size not in (None, (height, width)):
                raise ValueError(f"{self._path} can't hold frames of different sizes, such as {width}x{height}")
            size, count = (height, width), count + len(chunk)
            if count > self._num_frames:
                break
            yield from chunk
        if count != self._num_frames:
            raise ValueError(f"{self._path} is to hold {self._num_frames} frames, and {count} were given")


def _write_mp4(path: Path, frames: _Frames, fps: float, text: str, loop: bool) -> None:
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    rate = Fraction(fps).limit_denominator(1001)  # 30000/1001 is a rate as well
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = text
        # No B-frames: a player that ignores edit lists still shows every frame, and on time.
        stream = container.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": "slow", "bf": "0"})
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # more threads would cut the picture by the number of cores
        # Set explicitly: players disagree about the colours of small videos.
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=accurate_interpolation(),
                threads=1,
            )
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _write_gif(path: Path, frames: _Frames, fps: float, text: str, loop: bool) -> None:
    from PIL import Image

    # One palette for the frames on top of each other and no dither: what stands still does not flicker.
    clip = np.stack(list(frames))
    num_frames, height, width = clip.shape[:3]
    tower = Image.fromarray(clip.reshape(num_frames * height, width, 3))
    if tower.getcolors(1 << 16) is None:
        tower = tower.point(lambda level: level & 0xFC | 2)  # off by two at most, and seconds rather than minutes
    tower = tower.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    pictures = [tower.crop((0, top, width, top + height)) for top in range(0, tower.height, height)]
    palette = bytes(tower.getpalette() or [])
    options: dict[str, Any] = {"loop": 0, "comment": text.encode(), "palette": palette, "optimize": False}
    options["duration"] = [10 * hundredths for hundredths in _durations(num_frames, fps, 100)]
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], **options)


def _write_webp(path: Path, frames: _Frames, fps: float, text: str, loop: bool) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = text
    pictures = [Image.fromarray(frame) for frame in frames]
    options: dict[str, Any] = {"loop": 0 if loop else 1, "lossless": True, "exif": exif.tobytes()}
    options["duration"] = _durations(len(frames), fps, 1000)
    pictures[0].save(path, format="WEBP", save_all=True, append_images=pictures[1:], **options)


def _write_png(path: Path, frames: _Frames, fps: float, text: str, loop: bool) -> None:
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Comment", text)
    (frame,) = frames
    Image.fromarray(frame).save(path, format="PNG", pnginfo=chunks)


def _write_folder(path: Path, frames: _Frames, fps: float, text: str, loop: bool) -> None:
    from PIL import Image

    path.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{index:05}.png")
    (path / "metadata.json").write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="ascii")


_WRITERS: dict[str, Callable[[Path, _Frames, float, str, bool], None]] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".webp": _write_webp,
    ".png": _write_png,
    "": _write_folder,
}
_WRITTEN_AS_THEY_COME = (".mp4", "")


def _durations(num_frames: int, fps: float, ticks_per_second: int) -> list[int]:
    """Integer ticks for each frame, without drift: 8 fps in 1/100 s is 12, 13, 13, 12, ..., not 12 forever."""
    return [int(ticks) for ticks in np.diff(np.rint(np.arange(num_frames + 1) * ticks_per_second / fps))]
