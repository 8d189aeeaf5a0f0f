"""When a video's frames are shown: where it begins and ends, and which of its times can be believed.

What a file says of itself is not believed where it can be measured: the end is where its packets end. A file with an
index is measured at its two ends. One without (MPEG-TS and -PS, Ogg, raw streams) is read through once, without
decoding: only so is it known whether its times rise all the way, and where its keyframes are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Literal

from latentshift.data.footage.container import decode_packet, open_video
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.video.metadata import reason
from latentshift.video.packets import ends_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_MISSING_SECONDS, _MISSING_SHARE = 0.25, 0.02  # how much of what a file says it holds may be missing
ROUNDING = 1e-3  # seconds: how far a file's times may be off by rounding, and no more, whatever its clock
_DECODING_TIMES_ONLY = ("avi", "asf")  # what FFmpeg gives as their presentation times is a guess
_TS_DISCONT, _NO_TIMESTAMPS = 0x200, 0x80  # AVFMT_ flags of formats in which a seek is a guess at a byte
_ENOUGH = 8  # packets by which it shows whether presentation times are more than decoding times
_NO_TIMES = "its frames do not say when they are shown"

Clock = Literal["presentation", "decoding", "order"]


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of a file that is read from its beginning, in the file's order.

    Attributes:
        numbers: of the video packet, counted from the file's beginning.
        times: when each is shown, in seconds of the file's clock.
    """

    numbers: tuple[int, ...]
    times: tuple[float, ...]


@dataclass(frozen=True)
class Timeline:
    """When a video's frames are shown, in seconds of its own clock, which need not begin at 0.

    Attributes:
        start: when the first frame that can be decoded is shown.
        end: when the last frame has been shown.
        tick: how far a time may be off by rounding.
        clock: where a frame's time comes from: ``"presentation"``, its own presentation time; ``"decoding"``, its
            decoding time, where frames are shown in the order in which they are decoded; ``"order"``, its place among
            the frames.
        keyframes: of a file that has to be read from its beginning; None for one whose index leads to them.
        order: when the n-th frame is shown, where the clock is ``"order"``.
    """

    start: float
    end: float
    tick: float
    clock: Clock
    keyframes: Keyframes | None
    order: tuple[float, ...] | None = None


def measure_timeline(row: Row, container: InputContainer, stream: VideoStream) -> Timeline:
    """The timeline of a video that was just opened.

    Raises:
        Rejected: for a video without times that rise, for one that ends before it says, and for a broken one.
    """
    base = stream.time_base
    if base is None:
        raise Rejected("no-times", _NO_TIMES)
    clock: Clock = "presentation"
    if container.format.name in _DECODING_TIMES_ONLY:
        clock = "order" if stream.codec_context.has_b_frames else "decoding"
    unindexed = bool(container.format.flags & (_TS_DISCONT | _NO_TIMESTAMPS))
    indexed = None if unindexed or clock == "order" else _measure_ends(row, container, stream, clock)
    found = indexed or _scan(row.file, row.offset, row.size, os.stat(row.file).st_mtime_ns, clock)
    if not unindexed:
        _check_length(found, container, stream)
    return found


def packet_time(packet: Packet, clock: Clock) -> int | None:
    """When a packet's frame is shown, in ticks of the stream, as far as the packet says; None where it does not."""
    if clock != "presentation":
        return packet.dts
    return packet.dts if packet.pts is None else packet.pts


def _tick(base: Fraction) -> float:
    return min(float(base) / 2, ROUNDING)


def _measure_ends(row: Row, container: InputContainer, stream: VideoStream, clock: Clock) -> Timeline | None:
    """The timeline by a look at the first packet and at the last ones; None where the file can't be sought in."""
    base = stream.time_base
    assert base is not None
    try:
        packets = (packet for packet in container.demux(stream) if not ends_stream(packet))
        first = next(packets, None)
        if first is None:
            raise Rejected("damaged", "it holds no frames")
        if clock == "presentation" and _lacks_reordering(stream, [first, *islice(packets, _ENOUGH)]):
            return None
    except Rejected:
        raise
    except Exception as error:
        raise Rejected("damaged", f"it can't be read: {reason(error)}") from error
    try:
        container.seek(2**62 // max(1, base.denominator), stream=stream, backward=True)
        last = _last_time(container, stream, clock)
    except Exception:
        last = None
    if last is None:  # no index leads there
        return None
    begins = packet_time(first, clock)
    start = begins if clock != "presentation" or stream.start_time is None else stream.start_time
    if start is None or begins is None or not first.is_keyframe or begins > start:
        started = _first_shown(row, clock)  # what comes before the first keyframe can't be decoded
    else:
        started = float(start * base)
    return Timeline(started, max(float(last * base), started), _tick(base), clock, None)


def _lacks_reordering(stream: VideoStream, packets: list[Packet]) -> bool:
    """Whether presentation times are decoding times by another name, though frames are shown in another order.

    So it is where a file without presentation times was copied into a container that has them.
    """
    if not stream.codec_context.has_b_frames:
        return False
    stamped = [packet for packet in packets if packet.pts is not None and packet.dts is not None]
    same = sum(packet.pts == packet.dts for packet in stamped)
    rises = all(after.pts >= before.pts for before, after in pairwise(stamped))  # type: ignore[operator]
    return rises and len(stamped) > 0 and same >= len(stamped) - 1


def _last_time(container: InputContainer, stream: VideoStream, clock: Clock) -> int | None:
    last: int | None = None
    for packet in container.demux(stream):
        if packet.is_discard:  # cut away by an edit list
            continue
        shown = packet_time(packet, clock)
        if shown is not None:
            ends = shown + (packet.duration or 0)
            last = ends if last is None else max(last, ends)
    return last


def _first_shown(row: Row, clock: Clock) -> float:
    with open_video(row.file, row.offset, row.size) as (container, stream):
        for packet in container.demux(stream):
            for frame in decode_packet(packet):
                shown = frame.pts if clock == "presentation" else frame.dts
                if shown is None or stream.time_base is None:
                    raise Rejected("no-times", _NO_TIMES)
                return float(shown * stream.time_base)
    raise Rejected("damaged", "no frame of it can be decoded")


@lru_cache(maxsize=32)
def _scan(file: str, offset: int | None, size: int | None, changed: int, clock: Clock) -> Timeline:
    """The timeline by all packets of a file, from its beginning to its end."""
    # ``changed`` is here so that a file that has changed is read again
    shown: list[tuple[int, int]] = []  # from when, for how long
    keys: dict[int, int] = {}  # number of the packet: when it is shown
    begins: list[Packet] = []
    first: int | None = None
    delay = 0  # of packets that go into the decoder before the first frame comes out
    before: int | None = None  # the decoding time of the packet before
    with open_video(file, offset, size) as (container, stream):
        base = stream.time_base
        if base is None:
            raise Rejected("no-times", _NO_TIMES)
        for number, packet in enumerate(container.demux(stream)):
            if clock == "order" and not keys and not packet.is_keyframe:
                continue  # no frame comes of it
            if first is None and (frames := decode_packet(packet)):
                first, delay = frames[0].pts or 0, len(shown)
            if ends_stream(packet):
                break
            when, decoded = packet_time(packet, clock), packet.pts if packet.dts is None else packet.dts
            if when is None or decoded is None:
                raise Rejected("no-times", _NO_TIMES)
            if before is not None and float((before - decoded) * base) > 1.01 * ROUNDING:
                at = float((max(shown)[0] - min(shown)[0]) * base)
                raise Rejected("no-times", f"its times jump back after {at:.2f} s, as where two recordings were joined")
            before = decoded
            if number <= _ENOUGH:
                begins.append(packet)
            if packet.is_discard:
                continue
            if packet.is_keyframe and packet.size > 0:
                keys[number] = when
            shown.append((when, packet.duration or 0))
        if clock == "presentation" and _lacks_reordering(stream, begins):
            if any(packet.is_discard for packet in begins):
                raise Rejected("no-times", "its edit list cuts by times that are not those of its frames")
            return _scan(file, offset, size, changed, "order")
    if first is None or not shown:
        raise Rejected("damaged", "no frame of it can be decoded")
    end = _end(shown)
    order = None
    if clock == "order":
        # An encoder that shows frames in another order delays them by as many packets as the decoder does: what goes
        # in at a packet's time comes out of it then. The last ones come out after the last packet.
        step = end - max(shown)[0]
        times = [when for when, _ in shown[delay:]] + [end + step * number for number in range(min(delay, len(shown)))]
        first, end = times[0], times[-1] + step
        order = tuple(float(when * base) for when in times)
    return Timeline(
        start=float(first * base),
        end=float(max(end, first) * base),
        tick=_tick(base),
        clock=clock,
        keyframes=Keyframes(tuple(keys), tuple(float(when * base) for when in keys.values())),
        order=order,
    )


def _end(shown: list[tuple[int, int]]) -> int:
    """When the last frame has been shown; one that does not say for how long stays as long as the one before."""
    (last, length), *others = sorted(shown, reverse=True)[:2]
    return last + (length or (last - others[0][0] if others else 0))


def _check_length(timeline: Timeline, container: InputContainer, stream: VideoStream) -> None:
    """Refuse a file that ends before it says."""
    lasts = timeline.end - timeline.start
    if stream.duration is not None and stream.time_base is not None:
        claimed = float(stream.duration * stream.time_base)
    elif len(container.streams) == 1 and container.duration:  # of several it may be the sound that is longer
        claimed = container.duration / 1e6
    else:
        return
    # Matroska, ASF and NUT count from zero, whenever the first frame is shown; MP4 counts from that.
    counted = lasts if container.format.name.startswith("mov") else max(lasts, timeline.end)
    if claimed - counted > max(_MISSING_SECONDS, _MISSING_SHARE * claimed):
        raise Rejected("damaged", f"it says that it lasts {claimed:.2f} s, but its frames end at {counted:.2f} s")
