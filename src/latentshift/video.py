"""Clips as files: decode them, write them whole or not at all, and the one definition of uint8 <-> [-1, 1].

A clip is RGB, uint8 (F, H, W, 3), with a frame rate. The suffix of a path says what kind of file holds it: .mp4 (H.264,
plays in browsers), .gif, .webp (lossless), .png (a single frame), and no suffix at all is a folder of frames.
Every kind carries a small JSON object: the caller's metadata, and under "_video" the frame rate and number of frames,
which a folder or a .png cannot say otherwise, and from which the repeated frames come back that .gif and .webp merge.

Knows nothing of models, tensors on devices, prompts or the data sets. Imports nothing else of the package, and PyAV,
Pillow and torch only where they are used. Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_FPS = 8
RECORD = "_video"  # the key of the metadata that is this module's own
MIN_FPS, MAX_FPS = 0.1, 240
BROWSER_MAX_FPS = {".gif": 50, ".webp": 90}  # browsers slow images down to 10 frames per second beyond this
CRF = "12"  # x264's constant quality: 0 lossless, 18 hard to tell from it, 51 worst
EXIF_DESCRIPTION = 0x010E
IMAGES = (".gif", ".webp", ".png")
T = TypeVar("T")


@overload
def to_unit(frames: np.ndarray) -> np.ndarray: ...
@overload
def to_unit(frames: Tensor) -> Tensor: ...
def to_unit(frames: Any) -> Any:
    """uint8 0..255 to float32 in [-1, 1], array to array and tensor to tensor, shape and device as they were.

    Raises:
        TypeError: for anything but uint8.
    """
    if str(frames.dtype) not in ("uint8", "torch.uint8"):
        raise TypeError(f"to_unit takes uint8 values from 0 to 255, not {frames.dtype}")
    return (frames.astype(np.float32) if isinstance(frames, np.ndarray) else frames.float()) / 127.5 - 1


@overload
def to_uint8(x: np.ndarray) -> np.ndarray: ...
@overload
def to_uint8(x: Tensor) -> Tensor: ...
def to_uint8(x: Any) -> Any:
    """Float of any precision in [-1, 1], clipped to that, to the nearest of uint8 0..255; undoes :func:`to_unit`.

    Raises:
        TypeError: for anything but floats.
        ValueError: where a value is NaN or infinite.
    """
    if "float" not in str(x.dtype):
        raise TypeError(f"to_uint8 takes floats from -1 to 1, not {x.dtype}")
    if not (abs(x) < math.inf).all():  # false for NaN too
        raise ValueError("to_uint8 met values that are NaN or infinite, which are no colours")
    if isinstance(x, np.ndarray):
        return ((x.clip(-1, 1).astype(np.float32) + 1) * 127.5).round().astype(np.uint8)
    return ((x.clip(-1, 1).float() + 1) * 127.5).round().byte()


def check_output(path: str | os.PathLike[str], num_frames: int, *, fps: float = DEFAULT_FPS) -> None:
    """Refuse early what :func:`write_video` would refuse late: call this before an expensive generation.

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
    ancestor = target.parent
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise NotADirectoryError(f"{path} can't be written, because {ancestor} is no folder: choose another path")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} can't be written, because the folder {ancestor} is not writable: choose another")
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
    """Write a clip; an existing file is replaced, and after a failure whatever was there before still is.

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
    if frames.dtype != np.uint8:
        raise TypeError(f"{path} is written from uint8 frames, not {frames.dtype}: see to_uint8")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise ValueError(f"{path} is written from frames of shape (F, H, W, 3), not {frames.shape}")
    check_output(path, len(frames), fps=fps)
    target = Path(path).resolve()
    suffix = target.suffix.lower()
    height, width = frames.shape[1:3]
    if suffix == ".mp4" and (height % 2 or width % 2):
        raise ValueError(f"{path} needs an even width and height, not {width}x{height}: crop the frames or use .webp")
    text = _encode(path, metadata or {}, fps, len(frames))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        _WRITERS[suffix](temporary, frames, fps, text, loop)
        if target.is_dir():
            target.rmdir()  # it is empty: check_output saw to that
        os.replace(temporary, target)
    except Exception as error:
        raise OSError(f"{path} could not be written: {_reason(error)}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def read_video(path: str | os.PathLike[str]) -> tuple[np.ndarray, float]:
    """All frames of a file or folder of frames, uint8 RGB (F, H, W, 3), upright, and frames per second.

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
    found = _decode(path, _read_text)
    return {key: value for key, value in found.items() if key != RECORD}


def _encode(path: object, metadata: Mapping[str, object], fps: float, num_frames: int) -> str:
    """The JSON to store: ASCII, the one text that every kind of file keeps as it is, and the same for equal objects."""
    if RECORD in metadata:
        raise ValueError(f'{path} can\'t hold metadata with the key "{RECORD}": it is taken, rename yours')
    record = {"fps": float(fps), "frames": num_frames}
    try:
        return json.dumps({**metadata, RECORD: record}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} can't hold this metadata, because JSON can't say it: {error}") from error


def _write_mp4(path: Path, frames: np.ndarray, fps: float, text: str, loop: bool) -> None:
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

    rate = Fraction(fps).limit_denominator(1001)  # 30000/1001 is a rate as well
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = text
        # No B-frames: a player that ignores edit lists still shows every frame, and on time.
        stream = container.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": "slow", "bf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # more threads would cut the picture by the number of cores
        # Said rather than left to be guessed: players disagree about the colours of small videos.
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=_interpolation(),
                threads=1,
            )
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _interpolation() -> int:
    """swscale's careful way between RGB and YUV. Its default darkens by two levels and blurs colours (3 dB)."""
    from av.video.reformatter import Interpolation as Way

    return Way.BICUBIC | Way.ACCURATE_RND | Way.FULL_CHR_H_INT | Way.FULL_CHR_H_INP


def _write_gif(path: Path, frames: np.ndarray, fps: float, text: str, loop: bool) -> None:
    from PIL import Image

    # One palette for the frames on top of each other and no dither: what stands still does not flicker.
    num_frames, height, width = frames.shape[:3]
    tower = Image.fromarray(frames.reshape(num_frames * height, width, 3))
    if tower.getcolors(1 << 16) is None:
        tower = tower.point(lambda level: level & 0xFC | 2)  # off by two at most, and seconds rather than minutes
    tower = tower.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    pictures = [tower.crop((0, top, width, top + height)) for top in range(0, tower.height, height)]
    palette = bytes(tower.getpalette() or [])
    options: dict[str, Any] = {"loop": 0, "comment": text.encode(), "palette": palette, "optimize": False}
    options["duration"] = [10 * hundredths for hundredths in _durations(num_frames, fps, 100)]
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], **options)


def _write_webp(path: Path, frames: np.ndarray, fps: float, text: str, loop: bool) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = text
    pictures = [Image.fromarray(frame) for frame in frames]
    options: dict[str, Any] = {"loop": 0 if loop else 1, "lossless": True, "exif": exif.tobytes()}
    options["duration"] = _durations(len(frames), fps, 1000)
    pictures[0].save(path, format="WEBP", save_all=True, append_images=pictures[1:], **options)


def _write_png(path: Path, frames: np.ndarray, fps: float, text: str, loop: bool) -> None:
    from PIL import Image, PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Comment", text)
    Image.fromarray(frames[0]).save(path, format="PNG", pnginfo=chunks)


def _write_folder(path: Path, frames: np.ndarray, fps: float, text: str, loop: bool) -> None:
    from PIL import Image

    path.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{index:05}.png")
    (path / "metadata.json").write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="ascii")


_WRITERS: dict[str, Callable[[Path, np.ndarray, float, str, bool], None]] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".webp": _write_webp,
    ".png": _write_png,
    "": _write_folder,
}


def _durations(num_frames: int, fps: float, ticks_per_second: int) -> list[int]:
    """Whole ticks for each frame that never drift: 8 fps in 1/100 s is 12, 13, 13, 12, ..., not 12 forever."""
    return [int(ticks) for ticks in np.diff(np.rint(np.arange(num_frames + 1) * ticks_per_second / fps))]


def _decode(path: str | os.PathLike[str], read: Callable[[Path], T]) -> T:
    source = Path(path).resolve()  # absolute, so that FFmpeg takes no "a:b.mp4" for an address
    if not source.exists():
        raise FileNotFoundError(f"{path} does not exist: name a video, an image or a folder of frames")
    try:
        return read(source)
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise ValueError(f"{path} can't be decoded as a clip: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _read_frames(path: Path) -> tuple[np.ndarray, float]:
    if path.is_dir():
        frames = [_read_image(file)[0][0] for file in sorted(path.glob("*.png"))]
        return _stack(frames), _recorded(_read_text(path))[0]
    if path.suffix.lower() in IMAGES:
        return _read_image(path)
    import av

    with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        how: dict[str, Any] = {"format": "rgb24", "interpolation": _interpolation(), "threads": 1}
        frames = [np.rot90(frame.to_ndarray(**how), frame.rotation // 90) for frame in container.decode(stream)]
        return _stack(frames), float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def _read_image(path: Path) -> tuple[np.ndarray, float]:
    from PIL import Image, ImageSequence

    frames: list[np.ndarray] = []
    durations: list[float] = []  # ms
    with Image.open(path) as image:
        for picture in ImageSequence.Iterator(image):
            frames.append(np.asarray(picture.convert("RGB")))
            durations.append(picture.info.get("duration", 0))
    fps, num_frames = _recorded(_read_text(path))
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


def _recorded(found: Mapping[str, Any]) -> tuple[float, int]:
    """Frame rate and number of frames as recorded, or (8, 0)."""
    record = found.get(RECORD)
    fps, num_frames = (record.get("fps"), record.get("frames")) if isinstance(record, dict) else (None, None)
    if isinstance(fps, float) and math.isfinite(fps) and fps > 0 and isinstance(num_frames, int):
        return fps, num_frames
    return float(DEFAULT_FPS), 0


def _read_text(path: Path) -> dict[str, Any]:
    """The JSON object in a file, with this module's own record; ``{}`` where there is none."""
    text: Any = None
    if path.is_dir():
        sidecar = path / "metadata.json"
        text = sidecar.read_text(encoding="utf-8") if sidecar.exists() else None
    elif path.suffix.lower() in IMAGES:
        from PIL import Image

        with Image.open(path) as image:  # .png, .gif, .webp
            text = image.info.get("Comment") or image.info.get("comment") or image.getexif().get(EXIF_DESCRIPTION)
    else:
        import av

        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            text = container.metadata.get("comment")
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
