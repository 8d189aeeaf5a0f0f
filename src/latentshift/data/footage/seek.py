"""Frames from a given moment on, with presentation times.

A presentation time is not a decoding position: a seek may land too late, or between keyframes. Frames after a seek are
used only from a keyframe on, and only if it is not later than the moment; otherwise the seek is repeated further back,
and finally the file is reopened and decoded from its beginning.
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

_EARLIER = (0.0, 10.0, 60.0)  # seconds before the wanted moment to seek to, tried in this order


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame and its presentation time, in seconds of the file's clock."""

    frame: VideoFrame
    time: float


def frames_from(
    row: Row, container: InputContainer, stream: VideoStream, timeline: Timeline, moment: float
) -> Iterator[TimedFrame]:
    """The frames in presentation order, from the one on screen at a moment, or an earlier one, to the end.

    The first one is later than the moment only if the file has no frame that early.

    Raises:
        Rejected: if frames can't be decoded, or timestamps do not increase.
    """
    from av import FFmpegError

    for frames in _attempts(row, container, stream, timeline, moment):
        try:
            first = next(frames, None)
        except (Rejected, FFmpegError):  # a failed seek, or frames from the middle of a group of pictures
            first = None
        if first is not None and first.time <= moment + timeline.tick:
            yield first
            yield from frames
            return
    yield from _from_beginning(row, timeline)


def _attempts(
    row: Row, container: InputContainer, stream: VideoStream, timeline: Timeline, moment: float
) -> Iterator[Iterator[TimedFrame]]:
    """Candidate decodes from several keyframes, which may be later than the moment."""
    if timeline.keyframes is None:
        for earlier in _EARLIER:
            yield _after_seek(container, stream, timeline, moment, max(moment - earlier, timeline.start))
            if moment - earlier <= timeline.start:
                return
    elif timeline.clock != "order":  # which needs all frames before
        at = bisect_right(timeline.keyframes.times, moment + timeline.tick) - 1
        if at >= 0 and timeline.keyframes.numbers[at] > 0:
            yield _from_packet(row, timeline, timeline.keyframes.numbers[at])


def _after_seek(
    container: InputContainer, stream: VideoStream, timeline: Timeline, moment: float, at: float
) -> Iterator[TimedFrame]:
    """Frames from the keyframe that a seek lands on; none if it is later than the moment."""
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
    """Frames of the reopened file, starting at the packet of that number, a keyframe."""
    with open_video(row.file, row.offset, row.size) as (container, stream):
        packets = container.demux(stream)
        key = next(islice(packets, number, None), None)
        if key is not None:
            yield from _from_keyframe(key, packets, timeline, stream)


def _from_keyframe(
    key: Packet, packets: Iterator[Packet], timeline: Timeline, stream: VideoStream
) -> Iterator[TimedFrame]:
    """Frames from a keyframe on; none if the decoder does not mark it as one.

    Frames shown before it are skipped: they reference frames that were not decoded. So are all frames of streams with
    intra refresh, whose packets are marked as keyframes although a picture is refreshed only in part.
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
    """All frames of the reopened file."""
    with open_video(row.file, row.offset, row.size) as (container, stream):
        packets = container.demux(stream)
        if timeline.clock == "order" and timeline.keyframes and timeline.keyframes.numbers:
            packets = islice(packets, timeline.keyframes.numbers[0], None)  # packets before give no frames
        yield from _timed(packets, timeline, stream)


def _timed(packets: Iterator[Packet], timeline: Timeline, stream: VideoStream) -> Iterator[TimedFrame]:
    """The frames of the packets with their presentation times, which must increase."""
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
