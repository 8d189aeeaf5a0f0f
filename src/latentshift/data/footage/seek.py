"""Frames from a moment on, each with the time at which it is shown.

A presentation time is no decoding position: a seek may lead too far, or between keyframes. So what comes out of the
decoder after a seek is used only from a keyframe on, and only if that is not later than the moment; else from further
back, and in the end from the beginning of the file, opened afresh.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from latentshift.data.footage.container import decode_packet, open_video
from latentshift.data.footage.timeline import ROUNDING, Timeline, packet_time
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video.packets import repeats_frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_EARLIER = (0.0, 10.0, 60.0)  # seconds before the wanted moment to seek to, one after the other


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame and when it is shown, in seconds of the file's clock."""

    frame: VideoFrame
    time: float


def frames_from(
    row: Row, container: InputContainer, stream: VideoStream, timeline: Timeline, moment: float
) -> Iterator[TimedFrame]:
    """The frames as they are shown, from the one on screen at a moment, or an earlier one, to the end.

    Only where the file itself has no frame that early does the first one come later than the moment.

    Raises:
        Rejected: for frames that can't be decoded, or whose times do not rise.
    """
    from av import FFmpegError

    for frames in _attempts(row, container, stream, timeline, moment):
        try:
            first = next(frames, None)
        except (Rejected, FFmpegError):  # a seek that fails, or what comes out in the middle of a group
            first = None
        if first is not None and first.time <= moment + timeline.tick:
            yield first
            yield from frames
            return
    yield from _from_beginning(row, timeline)


def _attempts(
    row: Row, container: InputContainer, stream: VideoStream, timeline: Timeline, moment: float
) -> Iterator[Iterator[TimedFrame]]:
    """Frames from one keyframe or another, which need not be as early as the moment."""
    if timeline.keyframes is None:
        for earlier in _EARLIER:
            yield _after_seek(container, stream, timeline, moment, max(moment - earlier, timeline.start))
            if moment - earlier <= timeline.start:
                return
    elif timeline.clock != "order":  # which needs every frame before
        at = bisect_right(timeline.keyframes.times, moment + timeline.tick) - 1
        if at >= 0 and timeline.keyframes.numbers[at] > 0:
            yield _from_packet(row, timeline, timeline.keyframes.numbers[at])


def _after_seek(
    container: InputContainer, stream: VideoStream, timeline: Timeline, moment: float, at: float
) -> Iterator[TimedFrame]:
    """Frames from the keyframe that a seek leads to; none if that is later than the moment."""
    base = stream.time_base
    assert base is not None  # else it has no timeline
    container.seek(math.floor(at / base), stream=stream, backward=True)
    packets = container.demux(stream)
    for packet in packets:
        shown = packet_time(packet, timeline.clock)
        if packet.is_keyframe and shown is not None:
            if float(shown * base) <= moment + timeline.tick:
                yield from _from_keyframe(packet, packets, timeline, stream)
            return


def _from_packet(row: Row, timeline: Timeline, number: int) -> Iterator[TimedFrame]:
    """Frames of the file opened afresh, from its packet of that number on, which is a keyframe."""
    with open_video(row.file, row.offset, row.size) as (container, stream):
        packets = container.demux(stream)
        key = next(islice(packets, number, None), None)
        if key is not None:
            yield from _from_keyframe(key, packets, timeline, stream)


def _from_keyframe(
    key: Packet, packets: Iterator[Packet], timeline: Timeline, stream: VideoStream
) -> Iterator[TimedFrame]:
    """Frames from a keyframe on; none if the decoder does not take it for one.

    Left out are frames that are shown before it, which need others that the decoder has not seen; and all of a stream
    whose pictures are renewed part by part, and which is marked as if they were renewed at once.
    """
    shown = packet_time(key, timeline.clock)
    assert shown is not None and stream.time_base is not None  # else it is no keyframe of a timeline
    begun = False
    for each in _timed(chain([key], packets), timeline, stream):
        if each.time < float(shown * stream.time_base) - timeline.tick:
            continue
        if not begun and not each.frame.key_frame:
            return
        begun = True
        yield each


def _from_beginning(row: Row, timeline: Timeline) -> Iterator[TimedFrame]:
    """All frames of the file opened afresh."""
    with open_video(row.file, row.offset, row.size) as (container, stream):
        packets = container.demux(stream)
        if timeline.clock == "order" and timeline.keyframes and timeline.keyframes.numbers:
            packets = islice(packets, timeline.keyframes.numbers[0], None)  # those before give no frame to count
        yield from _timed(packets, timeline, stream)


def _timed(packets: Iterator[Packet], timeline: Timeline, stream: VideoStream) -> Iterator[TimedFrame]:
    """The packets' frames with their times, which rise."""
    base = stream.time_base
    assert base is not None  # else it has no timeline
    order = None if timeline.order is None else iter(timeline.order)
    last: TimedFrame | None = None
    for packet in packets:
        if repeats_frame(packet):
            shown = packet_time(packet, timeline.clock)
            if last is not None and shown is not None:
                yield TimedFrame(last.frame, float(shown * base))
            continue
        for frame in decode_packet(packet):
            ticks = frame.pts if timeline.clock == "presentation" else frame.dts
            time = next(order, None) if order is not None else None if ticks is None else float(ticks * base)
            if time is None:
                raise Rejected("no-times", "its frames do not say when they are shown")
            if last is not None and last.time - time > 1.01 * ROUNDING:
                raise Rejected("no-times", f"its frames' times go back, from {last.time:.2f} s to {time:.2f} s")
            last = TimedFrame(frame, time if last is None else max(time, last.time))
            yield last
