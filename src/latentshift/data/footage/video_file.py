"""One clip out of one video: the frames on screen at the wanted moments, upright, in RGB, of the wanted size.

Only what is needed is decoded: from the keyframe before the first moment to the frame of the last. What a file says of
itself is not believed where it can be measured: the end is where its packets end.
Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from latentshift.data.footage.clip import MAX_PIXELS, Clip, Probe
from latentshift.data.footage.framing import Cut
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video.metadata import reason
from latentshift.video.pixels import accurate_interpolation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_ATTACHED_PICTURE = 0x400  # a cover that poses as a video stream
_MISSING_SECONDS, _MISSING_SHARE = 0.25, 0.02  # how much of what a file says it holds may be missing
_ROUNDING = 1e-3  # seconds: how far a file's times may be off by rounding, and no more, whatever its clock
_EARLIER = (0.0, 10.0, 60.0, None)  # seconds before the wanted moment to begin at; None: at the beginning
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, ITU-T H.273


def probe_video(row: Row) -> Probe:
    """What a video is, without decoding more than its first frame.

    Raises:
        Rejected: for what can't be used, whatever the window.
    """
    with _opened(row) as (container, stream):
        start, end = _extent(container, stream)
        container.seek(0, backward=True)
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise Rejected("damaged", "no frame of it can be decoded")
        height, width = _as_seen(frame, stream)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        return Probe(start, end, fps, height, width, stream.codec_context.name)


def read_video(row: Row, window: Window, cut: Cut, rng: np.random.Generator, only: int | None = None) -> Clip:
    """The clip that a window takes out of a video, or one frame of it.

    Raises:
        Rejected: for a file that gives no such clip; the reason says why.
    """
    with _opened(row) as (container, stream):
        first, last = _extent(container, stream)
        begin = first + (row.start or 0.0)
        finish = last if row.end is None else min(last, first + row.end)
        if finish <= begin:
            raise Rejected("too-short", f"it ends at {finish - first:.2f} s, and its row starts at {begin - first:g} s")
        moments = window.moments(begin, finish, rng)
        moments = moments if only is None else moments[only : only + 1]
        clip = _taken(container, stream, moments, cut, first, last)
        return replace(clip, short=not window.fits(begin, finish))


def each_frame(row: Row, short_side: int) -> Iterator[tuple[float, float, np.ndarray]]:
    """Every frame from the row's start to its end, small: when it is shown, until when, and RGB (H, W, 3) uint8.

    Times are in seconds from the video's beginning; the shorter side is ``short_side`` pixels.

    Raises:
        Rejected: for a video that can't be decoded, or has no frame there.
    """
    with _opened(row) as (container, stream):
        first, last = _extent(container, stream)
        begin, finish = row.start or 0.0, last - first if row.end is None else min(row.end, last - first)
        assert stream.time_base is not None  # else it has no extent
        container.seek(int((first + begin) / stream.time_base), stream=stream, backward=True)
        some = False
        for frame in _decoded(container, stream):
            shown = frame.time - first
            if shown < begin - _length(frame, stream) / 2:
                continue
            if shown >= finish:
                break
            height, width = _as_seen(frame, stream)
            scale = short_side / min(height, width)
            cut = Cut(max(1, round(height * scale)), max(1, round(width * scale)))
            some = True
            yield shown, min(shown + _length(frame, stream), finish), _converted(frame, stream, cut)
        if not some:
            raise Rejected("too-short", f"it has no frame between {begin:g} s and {finish:.2f} s")


def _taken(
    container: InputContainer, stream: VideoStream, moments: np.ndarray, cut: Cut, first: float, last: float
) -> Clip:
    """The frames on screen at ``moments``: of each the last one whose time is not later."""
    tick = min(float(stream.time_base or Fraction(1, 90_000)) / 2, _ROUNDING)
    targets = np.minimum(moments, last - tick)  # what a window holds beyond the end is the last frame again
    for earlier in _EARLIER:
        from_start = earlier is None
        at = first if earlier is None else max(targets[0] - earlier, first)
        assert stream.time_base is not None  # else it has no extent
        container.seek(int(at / stream.time_base), stream=stream, backward=True)
        frames: list[np.ndarray] = []
        times: list[float] = []
        shown: VideoFrame | None = None
        for frame in _decoded(container, stream):
            if shown is None and frame.time > targets[0] + tick and not from_start:
                break  # an index that leads too far: from further back, then
            while shown is not None and len(frames) < len(targets) and targets[len(frames)] < frame.time - tick:
                _take(shown, stream, cut, frames, times)
            if len(frames) == len(targets):
                break
            shown = frame
        else:
            if shown is None:
                raise Rejected("damaged", f"no frame can be decoded at {targets[0] - first:.2f} s")
            ends = shown.time + _length(shown, stream)
            while len(frames) < len(targets):
                if targets[len(frames)] > ends + tick:
                    raise Rejected(
                        "damaged", f"it should last {last - first:.2f} s, but its frames end at {ends - first:.2f} s"
                    )
                _take(shown, stream, cut, frames, times)
        if len(frames) == len(targets):
            return Clip(np.stack(frames), np.array(times) - first)
    raise Rejected("damaged", f"no frame can be decoded at {targets[0] - first:.2f} s")


def _take(frame: VideoFrame, stream: VideoStream, cut: Cut, frames: list[np.ndarray], times: list[float]) -> None:
    if times and times[-1] == frame.time:  # still on screen: it need not be converted again
        frames.append(frames[-1])
    else:
        frames.append(_converted(frame, stream, cut))
    times.append(frame.time)


def _converted(frame: VideoFrame, stream: VideoStream, cut: Cut) -> np.ndarray:
    """A decoded frame as (height, width, 3) uint8: resized in swscale, whose filter widens as it scales down."""
    height, width = cut.scaled(*_as_seen(frame, stream))
    turned = frame.rotation % 180 != 0
    with_alpha = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(
        format="rgba" if with_alpha else "rgb24",
        width=height if turned else width,
        height=width if turned else height,
        interpolation=accurate_interpolation(),
        threads=1,
    )
    if with_alpha:
        if pixels[..., 3].min() < 255:
            raise Rejected("transparent", "parts of it are transparent")
        pixels = pixels[..., :3]
    return np.ascontiguousarray(cut.cut(np.rot90(pixels, frame.rotation // 90)))


def _as_seen(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Height and width with square pixels, upright; refuses what would come out wrong."""
    if frame.interlaced_frame:
        raise Rejected("interlaced", "it is interlaced")
    if frame.color_trc in _HDR:
        raise Rejected("hdr", f"it is HDR ({_HDR[frame.color_trc]})")
    if frame.rotation % 90:
        raise Rejected("rotated", f"it is turned by {frame.rotation} degrees")
    if _mirrored(frame):
        raise Rejected("rotated", "it is to be shown mirrored")
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(1, round(frame.width * aspect)) if aspect > 0 else frame.width
    return (width, frame.height) if frame.rotation % 180 else (frame.height, width)


def _mirrored(frame: VideoFrame) -> bool:
    """Whether its display matrix (3 × 3, 16.16 fixed point) turns left and right about."""
    from av.sidedata.sidedata import Type

    kinds: Any = frame.side_data
    data = kinds.get(Type.DISPLAYMATRIX)
    if data is None:
        return False
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    return a * d - b * c < 0


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames with their times; whatever FFmpeg says of a broken file is a refusal."""
    try:
        for frame in container.decode(stream):
            if frame.pts is None:
                frame.pts = frame.dts
            if frame.pts is None:
                raise Rejected("no-times", "its frames do not say when they are shown")
            if frame.is_corrupt:
                raise Rejected("damaged", f"its frame at {frame.time:.2f} s is damaged")
            yield frame
    except Rejected:
        raise
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise Rejected("damaged", f"it can't be decoded: {reason(error)}") from error


def _extent(container: InputContainer, stream: VideoStream) -> tuple[float, float]:
    """When the first frame is shown and the last one has been, from the packets themselves."""
    base = stream.time_base
    if base is None:
        raise Rejected("no-times", "its frames do not say when they are shown")
    start = stream.start_time
    try:
        container.seek(2**62 // max(1, base.denominator), stream=stream, backward=True)
        last = _last_packet(container, stream)
        if last is None:  # no index leads there
            container.seek(0, backward=True)
            last = _last_packet(container, stream)
    except Exception as error:
        raise Rejected("damaged", f"it can't be read: {reason(error)}") from error
    if last is None:
        raise Rejected("damaged", "it holds no frames that say when they are shown")
    begin = float(start * base) if start is not None else 0.0
    end = max(float(last * base), begin)
    claimed = _claimed(container, stream)
    if claimed - (end - begin) > max(_MISSING_SECONDS, _MISSING_SHARE * claimed):
        raise Rejected("damaged", f"it says that it lasts {claimed:.2f} s, but its frames end at {end - begin:.2f} s")
    return begin, end


def _claimed(container: InputContainer, stream: VideoStream) -> float:
    """How long a file says that its video is, in seconds; 0 if it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1  # else it may be the sound that is longer
    return container.duration / 1e6 if alone and container.duration else 0.0


def _last_packet(container: InputContainer, stream: VideoStream) -> int | None:
    last: int | None = None
    for packet in container.demux(stream):
        if packet.is_discard:  # cut away by an edit list
            continue
        shown = packet.dts if packet.pts is None else packet.pts
        if shown is not None:
            last = max(last or shown, shown + (packet.duration or 0))
    return last


def _length(frame: VideoFrame, stream: VideoStream) -> float:
    """How long a frame is on screen, in seconds."""
    if frame.duration and frame.time_base is not None:
        return float(frame.duration * frame.time_base)
    rate = stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 0.0


@contextmanager
def _opened(row: Row) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file's container and its video stream; whatever keeps it from being read is a refusal."""
    import av

    source = os.path.abspath(row.file)  # so that FFmpeg takes no "a:b.mp4" for an address
    if not os.path.isfile(source):
        raise Rejected("missing-file", "there is no such file")
    if row.offset is not None and row.size is not None:
        source = f"subfile,,start,{row.offset},end,{row.offset + row.size},,:{source}"
    try:
        container = av.open(source, options={"protocol_whitelist": "file,subfile"}, metadata_errors="ignore")
    except Exception as error:
        raise Rejected("damaged", f"it can't be opened as a video: {reason(error)}") from error
    with container:
        videos = [each for each in container.streams.video if not int(each.disposition) & _ATTACHED_PICTURE]
        if not videos:
            raise Rejected("no-video", "it holds no video")
        context = videos[0].codec_context
        if context is None:
            raise Rejected("damaged", "no decoder knows its kind of video")
        if context.width * context.height > MAX_PIXELS:
            raise Rejected("too-large", f"its frames are {context.width}x{context.height} pixels")
        context.thread_count = 1
        if videos[0].metadata.get("alpha_mode") == "1":
            raise Rejected("transparent", "it has a fourth channel, which its decoder leaves out")
        try:
            yield container, videos[0]
        except (Rejected, MemoryError):
            raise
        except Exception as error:  # seeking and converting raise nearly anything too
            raise Rejected("damaged", f"it can't be read: {reason(error)}") from error
