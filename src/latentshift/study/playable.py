"""What a clip is like for raters: how long and large it is, and whether browsers play its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentshift.data.footage.spread import Strip, read_strip
from latentshift.data.media import IMAGES
from latentshift.video.main_stream import main_stream

PLAYED = (".mp4", ".webm", ".gif", ".webp", ".png")  # as they are; the server knows their types
WRITTEN = ".webp"  # lossless: what pictures of other kinds, and folders of frames, are written as
_CODECS = ("h264", "vp8", "vp9", "av1")  # that browsers play without a licence of the system
_CHECKED = 16  # frames that are converted, of all that are decoded


@dataclass(frozen=True)
class ClipInfo:
    """What a clip is like, upright and with square pixels.

    Attributes:
        frames: at its rate; one that is shown for longer counts as several.
        seconds: that they last.
        unplayed: why browsers don't play the file; empty if they do, or it is written anew.
    """

    path: Path
    frames: int
    width: int
    height: int
    seconds: float
    unplayed: str = ""


def inspect_clip(path: Path) -> ClipInfo:
    """Decode a clip.

    Raises:
        Rejected: if it can't be used.
    """
    strip = read_strip(path, Strip(_CHECKED))
    height, width = strip.frames.shape[1:3]
    return ClipInfo(path, strip.count, width, height, strip.seconds, _unplayed(path))


def is_rewritten(path: Path) -> bool:
    """Whether it is a folder of frames, or a picture of a kind that not all browsers show."""
    return path.is_dir() or (path.suffix.lower() in IMAGES and path.suffix.lower() not in PLAYED)


def _unplayed(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".mp4", ".webm"):
        served = suffix in PLAYED or is_rewritten(path)
        return "" if served else f"is a {suffix} file, which browsers don't play: convert it to .mp4 (H.264)"
    import av

    with av.open(str(path.resolve()), options={"protocol_whitelist": "file"}) as container:
        stream = main_stream(container)
        assert stream is not None  # its frames were read before
        context = stream.codec_context
        codec, pixels = context.codec.canonical_name, context.pix_fmt
    if codec not in _CODECS:
        return f"is in {codec}, which browsers don't play: encode it as H.264"
    if codec == "h264" and pixels not in ("yuv420p", "yuvj420p"):
        return f"is in H.264 of {pixels}, which not all browsers play: encode it in yuv420p"
    return ""
