"""Frames from a moment on, each with the time at which it is shown.

A presentation time is no decoding position: a seek may lead too far, or between keyframes. So what comes out of the
decoder after a seek is used only from a keyframe on, and only if that is not later than the moment; else from further
back, and in the end from the beginning of the file, opened afresh.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentshift.data.footage.container import decode_packet, open_video
from latentshift.data.footage.timeline import Timeline, packet_time
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video.packets import ends_stream, repeats_frame

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
    if timeline.keyframes is None:
        for earlier in _EARLIER:
            frames = _after_seek(container, stream, timeline, moment, max(moment - earlier, timeline.start))
            try:
                first = next(frames, None)
            except Rejected:  # what comes out in the middle of a group need not be the file's fault
                first = None
            if first is not None and first.time <= moment + timeline.tick:
                yield first
                yield from frames
                return
            if moment - earlier <= timeline.start:
                break
        yield from _from_packet(row, timeline, 0)
        return
    at = bisect_right(timeline.keyframes.times, moment + timeline.tick) - 1
    number = timeline.keyframes.numbers[at] if at >= 0 and timeline.clock != "order" else 0
    if number > 0:
        frames = _from_packet(row, timeline, number)
        try:
            first = next(frames, None)
        except Rejected:
            first = None
        if first is not None and first.time <= moment + timeline.tick:
            yield first
            yield from frames
            return
    yield from _from_packet(row, timeline, 0)


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
        if not packet.is_keyframe or shown is None:
            continue
        key = float(shown * base)
        if key <= moment + timeline.tick:
            # What is shown before the keyframe hangs on a group of frames that the decoder has not seen.
            for each in _timed(_chain(packet, packets), timeline, stream):
                if each.time >= key - timeline.tick:
                    yield each
        return


def _from_packet(row: Row, timeline: Timeline, number: int) -> Iterator[TimedFrame]:
    """Frames of the file opened afresh, decoded from its packet of that number on."""
    with open_video(row.file, row.offset, row.size) as (container, stream):
        if number == 0 and timeline.clock == "order" and timeline.keyframes and timeline.keyframes.numbers:
            number = timeline.keyframes.numbers[0]  # packets before it give no frames, and must not count
        packets = container.demux(stream)
        kept = (packet for count, packet in enumerate(packets) if count >= number or ends_stream(packet))
        first = next(kept, None)
        if first is None:
            return
        key = packet_time(first, timeline.clock) if number > 0 else None
        for each in _timed(_chain(first, kept), timeline, stream):
            if key is None or stream.time_base is None or each.time >= float(key * stream.time_base) - timeline.tick:
                yield each


def _chain(first: Packet, others: Iterable[Packet]) -> Iterator[Packet]:
    yield first
    yield from others


def _timed(packets: Iterator[Packet], timeline: Timeline, stream: VideoStream) -> Iterator[TimedFrame]:
    """The packets' frames with their times, which rise."""
    base = stream.time_base
    assert base is not None  # else it has no timeline
    decoding_times: deque[int | None] = deque()
    last: TimedFrame | None = None
    for packet in packets:
        if repeats_frame(packet):
            shown = packet_time(packet, timeline.clock)
            if last is not None and shown is not None:
                yield TimedFrame(last.frame, float(shown * base))
            continue
        if not ends_stream(packet):
            decoding_times.append(packet.dts)
        for frame in decode_packet(packet):
            if timeline.clock == "presentation":
                ticks = frame.pts
            elif timeline.clock == "decoding":
                ticks = frame.dts
            else:
                ticks = decoding_times.popleft() if decoding_times else None
            if ticks is None:
                raise Rejected("no-times", "its frames do not say when they are shown")
            time = float(ticks * base)
            if last is not None and time < last.time:
                raise Rejected("no-times", f"its frames' times go back, from {last.time:.2f} s to {time:.2f} s")
            last = TimedFrame(frame, time)
            yield last
