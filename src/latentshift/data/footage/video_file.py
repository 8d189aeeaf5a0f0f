"""Read a clip of a video: the frames on screen at given moments, upright, RGB, resized and cropped.

Decoding starts at the keyframe before the first moment and stops at the frame of the last.
Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from latentshift.data.footage.clip import Clip, Probe
from latentshift.data.footage.container import open_video
from latentshift.data.footage.seek import TimedFrame, frames_from
from latentshift.data.footage.timeline import Timeline, measure_timeline
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video.cut import Cut
from latentshift.video.metadata import DEFAULT_FPS
from latentshift.video.pixels import accurate_interpolation

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, ITU-T H.273


def probe_video(row: Row) -> Probe:
    """Measure the properties of a video, decoding only its first frame.

    Raises:
        Rejected: if it can't be used with any window.
    """
    with open_video(row.file, row.offset, row.size) as (container, stream):
        timeline = measure_timeline(row, container, stream)
        first = next(frames_from(row, container, stream, timeline, timeline.start), None)
        if first is None:
            raise Rejected("damaged", "no frame of it can be decoded")
        height, width = _display_size(first.frame, stream)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        return Probe(timeline.start, timeline.end, fps, height, width, stream.codec_context.name)


def read_video(row: Row, window: Window, cut: Cut, rng: np.random.Generator, only: int | None = None) -> Clip:
    """The clip of a video in a time window, or one frame of it.

    Raises:
        Rejected: if the file gives no such clip; the reason says why.
    """
    with open_video(row.file, row.offset, row.size) as (container, stream):
        timeline = measure_timeline(row, container, stream)
        first, last = timeline.start, timeline.end
        begin = first + (row.start or 0.0)
        finish = last if row.end is None else min(last, first + row.end)
        if finish <= begin:
            raise Rejected("too-short", f"it ends at {finish - first:.2f} s, and its row starts at {begin - first:g} s")
        moments = window.moments(begin, finish, rng)
        moments = moments if only is None else moments[only : only + 1]
        targets = np.minimum(moments, last - timeline.tick)  # moments beyond the end repeat the last frame
        frames = frames_from(row, container, stream, timeline, float(targets[0]))
        clip = _take_frames(frames, stream, targets, cut, timeline)
        return replace(clip, short=not window.fits(begin, finish))


def each_frame(row: Row, short_side: int) -> Iterator[tuple[float, float, np.ndarray]]:
    """Every frame of a row, downscaled: start and end of its display, and RGB (H, W, 3) uint8.

    Times are in seconds from the start of the video; the shorter side is ``short_side`` pixels.

    Raises:
        Rejected: if the video can't be decoded, or has no frame in that range.
    """
    with open_video(row.file, row.offset, row.size) as (container, stream):
        timeline = measure_timeline(row, container, stream)
        first, last = timeline.start, timeline.end
        begin, finish = row.start or 0.0, last - first if row.end is None else min(row.end, last - first)
        some = False
        for timed in frames_from(row, container, stream, timeline, first + begin):
            frame, shown = timed.frame, timed.time - first
            if shown < begin - _frame_duration(frame, stream) / 2:
                continue
            if shown >= finish:
                break
            height, width = _display_size(frame, stream)
            scale = short_side / min(height, width)
            cut = Cut(max(1, round(height * scale)), max(1, round(width * scale)))
            some = True
            yield shown, min(shown + _frame_duration(frame, stream), finish), _to_rgb(frame, stream, cut)
        if not some:
            raise Rejected("too-short", f"it has no frame between {begin:g} s and {finish:.2f} s")


def chosen_frames(row: Row, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Frames of a whole video at its displayed size, chosen by the times of all: uint8 RGB (F, H, W, 3).

    Args:
        row: of the file.
        choose: gives the indices, int (F,), for when each frame ends, (N,) in seconds from the start.

    Raises:
        Rejected: if the file can't be used; or what ``choose`` raises.
    """
    with open_video(row.file, row.offset, row.size) as (container, stream):
        timeline = measure_timeline(row, container, stream)
        shown = list(frames_from(row, container, stream, timeline, timeline.start))
        if not shown:
            raise Rejected("damaged", "no frame of it can be decoded")
        if len({(each.frame.width, each.frame.height) for each in shown}) > 1:
            raise Rejected("damaged", "its frames differ in size")
        starts = np.array([each.time for each in shown]) - shown[0].time
        length = _frame_duration(shown[-1].frame, stream) or 1 / DEFAULT_FPS
        should_end = timeline.end - shown[0].time
        if should_end > starts[-1] + length + max(timeline.tick, length / 2):
            raise Rejected(
                "damaged", f"it should last {should_end:.2f} s, but its frames end at {starts[-1] + length:.2f} s"
            )
        ends = np.append(starts[1:], should_end if should_end > starts[-1] else starts[-1] + length)
        cut = Cut(*_display_size(shown[0].frame, stream))
        return np.stack([_to_rgb(shown[index].frame, stream, cut) for index in choose(ends).tolist()])


def _take_frames(
    frames: Iterator[TimedFrame], stream: VideoStream, targets: np.ndarray, cut: Cut, timeline: Timeline
) -> Clip:
    """The frames on screen at ``targets``: for each, the last one that is not later."""
    first, tick = timeline.start, timeline.tick
    taken: list[np.ndarray] = []
    times: list[float] = []

    def take(shown: TimedFrame) -> None:
        still = times and times[-1] == shown.time  # the same frame again: no second conversion
        taken.append(taken[-1] if still else _to_rgb(shown.frame, stream, cut))
        times.append(shown.time)

    shown: TimedFrame | None = None
    for frame in frames:
        if shown is None and frame.time > targets[0] + tick:
            raise Rejected("damaged", f"no frame can be decoded at {targets[0] - first:.2f} s")
        while shown is not None and len(taken) < len(targets) and targets[len(taken)] < frame.time - tick:
            take(shown)
        if len(taken) == len(targets):
            break
        shown = frame
    else:
        if shown is None:
            raise Rejected("damaged", f"no frame can be decoded at {targets[0] - first:.2f} s")
        ends = shown.time + _frame_duration(shown.frame, stream)
        while len(taken) < len(targets):
            if targets[len(taken)] > max(ends, shown.time) + tick and ends < timeline.end - tick:
                raise Rejected(
                    "damaged",
                    f"it should last {timeline.end - first:.2f} s, but its frames end at {ends - first:.2f} s",
                )
            take(shown)
    return Clip(np.stack(taken), np.array(times) - first)


def _to_rgb(frame: VideoFrame, stream: VideoStream, cut: Cut) -> np.ndarray:
    """A decoded frame as (height, width, 3) uint8, resized by swscale with antialiasing."""
    height, width = cut.scaled(*_display_size(frame, stream))
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


def _display_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Displayed height and width, with square pixels; rejects frames that would be converted wrongly."""
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
    """Whether its display matrix (3 × 3, 16.16 fixed point) mirrors it."""
    from av.sidedata.sidedata import Type

    kinds: Any = frame.side_data
    data = kinds.get(Type.DISPLAYMATRIX)
    if data is None:
        return False
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    return a * d - b * c < 0


def _frame_duration(frame: VideoFrame, stream: VideoStream) -> float:
    """The duration of a frame, in seconds."""
    if frame.duration and frame.time_base is not None:
        return float(frame.duration * frame.time_base)
    rate = stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 0.0
