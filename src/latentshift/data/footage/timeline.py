"""The timeline of a video: start, end, and which of its timestamps are reliable.

The end is measured from packets instead of read from headers. A file with an index is measured at its two ends. One
without (MPEG-TS and -PS, Ogg, raw streams) is demuxed once without decoding, to check that timestamps increase and to
find the keyframes.
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

_MISSING_SECONDS, _MISSING_SHARE = 0.25, 0.02  # how much of the duration in the header may be missing
ROUNDING = 1e-3  # seconds: the most that rounding of timestamps may amount to, whatever the time base
GIF_ROUNDING = 0.0051  # seconds: but in a .gif, which counts hundredths: half of one, and what binary fractions add
_DECODING_TIMES_ONLY = ("avi", "asf")  # their presentation times from FFmpeg are a guess
_TS_DISCONT, _NO_TIMESTAMPS = 0x200, 0x80  # AVFMT_ flags of formats without an exact seek
_ENOUGH = 8  # packets needed to see whether presentation times differ from decoding times
_NO_TIMES = "its frames do not say when they are shown"
_MAX_GAP = 10.0  # seconds from one frame to the next where a container counts anew; FFmpeg's dts_delta_threshold

Clock = Literal["presentation", "decoding", "order"]


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of a file without index, in file order.

    Attributes:
        numbers: indices of their packets in the video stream.
        times: their presentation times, in seconds of the file's clock.
    """

    numbers: tuple[int, ...]
    times: tuple[float, ...]


@dataclass(frozen=True)
class Timeline:
    """The timeline of a video, in seconds of its own clock, which need not start at 0.

    Attributes:
        start: presentation time of the first decodable frame.
        end: end of the last frame.
        tick: tolerance for rounding of timestamps.
        clock: the source of frame times: ``"presentation"`` timestamps; ``"decoding"`` timestamps, if frames are not
            reordered; or ``"order"``, the position among the frames.
        keyframes: of a file without index; None for one with an index.
        order: presentation time of the n-th frame, if the clock is ``"order"``.
    """

    start: float
    end: float
    tick: float
    clock: Clock
    keyframes: Keyframes | None
    order: tuple[float, ...] | None = None


def measure_timeline(row: Row, container: InputContainer, stream: VideoStream) -> Timeline:
    """Measure the timeline of a newly opened video.

    Raises:
        Rejected: if its timestamps do not increase, it is shorter than its header says, or it is damaged.
    """
    base = stream.time_base
    if base is None:
        raise Rejected("no-times", _NO_TIMES)
    if container.format.flags & _NO_TIMESTAMPS and not stream.codec_context.framerate:
        raise Rejected("no-times", _NO_TIMES)  # a raw stream whose headers tell no rate: FFmpeg makes one up
    clock: Clock = "presentation"
    if container.format.name in _DECODING_TIMES_ONLY:
        clock = "order" if stream.codec_context.has_b_frames else "decoding"
    unindexed = bool(container.format.flags & (_TS_DISCONT | _NO_TIMESTAMPS))
    indexed = None if unindexed or clock == "order" else _measure_ends(row, container, stream, clock)
    timeline = indexed or _scan(row.file, row.offset, row.size, os.stat(row.file).st_mtime_ns, clock)
    if not unindexed:
        _check_length(timeline, container, stream)
    return timeline


def packet_time(packet: Packet, clock: Clock) -> int | None:
    """The presentation time of a packet's frame, in ticks of the stream; None if unknown."""
    if clock != "presentation":
        return packet.dts
    return packet.dts if packet.pts is None else packet.pts


def _tick(base: Fraction, container: InputContainer) -> float:
    return GIF_ROUNDING if container.format.name == "gif" else min(float(base) / 2, ROUNDING)


def _measure_ends(row: Row, container: InputContainer, stream: VideoStream, clock: Clock) -> Timeline | None:
    """The timeline from the first packet and the last ones; None if the file can't be seeked."""
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
    return Timeline(started, max(float(last * base), started), _tick(base, container), clock, None)


def _lacks_reordering(stream: VideoStream, packets: list[Packet]) -> bool:
    """Whether presentation times equal decoding times although frames are reordered.

    This happens if a file without presentation times was remuxed into a container that has them.
    """
    if not stream.codec_context.has_b_frames:
        return False
    stamped = [packet for packet in packets if packet.pts is not None and packet.dts is not None]
    same = sum(packet.pts == packet.dts for packet in stamped)
    rises = all(after.pts >= before.pts for before, after in pairwise(stamped))  # type: ignore[operator]
    return rises and len(stamped) > 0 and same >= len(stamped) - 1


def _last_time(container: InputContainer, stream: VideoStream, clock: Clock) -> int | None:
    """When the last frame has been shown; None where times jump back, as where another recording follows."""
    base = stream.time_base
    assert base is not None
    last = before = None
    for packet in container.demux(stream):
        if packet.dts is not None:
            if before is not None and _goes_back(before, packet.dts, base):
                return None
            before = packet.dts
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
    """The timeline from all packets of a file."""
    # ``changed`` is part of the cache key: a changed file is scanned again
    with open_video(file, offset, size) as (container, stream):
        base = stream.time_base
        if base is None:
            raise Rejected("no-times", _NO_TIMES)
        packets = _Packets(clock, base, _tick(base, container), bool(container.format.flags & _TS_DISCONT))
        for number, packet in enumerate(container.demux(stream)):
            if clock == "order" and not packets.keys and not packet.is_keyframe:
                continue  # no frame comes of it
            if packets.first is None and (frames := decode_packet(packet)):
                packets.first, packets.delay = frames[0].pts or 0, len(packets.shown)
            if ends_stream(packet):
                break
            packets.add(number, packet)
        if clock == "presentation" and _lacks_reordering(stream, packets.begins):
            if any(packet.is_discard for packet in packets.begins):
                raise Rejected("no-times", "its edit list cuts by times that are not those of its frames")
            return _scan(file, offset, size, changed, "order")
    return packets.timeline()


class _Packets:
    """The packets of a file, as one after another is read.

    Args:
        clock: where frame times come from.
        base: seconds of a tick of the stream.
        tick: as in :class:`Timeline`.
        counts_anew: whether times of the container may jump ahead where another recording follows.

    Attributes:
        first: when the first decodable frame is shown; None: there was none yet.
        delay: packets that went into the decoder before that frame came out.
        begins: the first packets.
        shown: from when and for how long each packet's frame is shown.
        keys: number of a keyframe's packet -> when it is shown.
    """

    def __init__(self, clock: Clock, base: Fraction, tick: float, counts_anew: bool) -> None:
        self.clock, self.base, self.tick, self.counts_anew = clock, base, tick, counts_anew
        self.first: int | None = None
        self.delay = 0
        self.begins: list[Packet] = []
        self.shown: list[tuple[int, int]] = []
        self.keys: dict[int, int] = {}
        self._before: int | None = None  # the decoding time of the packet before

    def add(self, number: int, packet: Packet) -> None:
        """Take the times of the next packet.

        Raises:
            Rejected: if it has none, or they jump.
        """
        when = packet_time(packet, self.clock)
        if when is None:
            raise Rejected("no-times", _NO_TIMES)
        if packet.dts is not None:
            self._check_jump(packet.dts)
            self._before = packet.dts
        if number <= _ENOUGH:
            self.begins.append(packet)
        if packet.is_discard:
            return
        if packet.is_keyframe and packet.size > 0:
            self.keys[number] = when
        self.shown.append((when, packet.duration or 0))

    def _check_jump(self, decoded: int) -> None:
        if self._before is None or not self.shown:
            return
        jumps = "back" if _goes_back(self._before, decoded, self.base) else ""
        if self.counts_anew and float((decoded - self._before) * self.base) > _MAX_GAP:
            jumps = "ahead"
        if jumps:
            at = float((max(self.shown)[0] - min(self.shown)[0]) * self.base)
            joined = "as where two recordings were joined"
            raise Rejected("no-times", f"its times jump {jumps} after {at:.2f} s, {joined}")

    def timeline(self) -> Timeline:
        """The timeline, when all packets have been read.

        Raises:
            Rejected: if there is no frame.
        """
        first, base = self.first, self.base
        if first is None or not self.shown:
            raise Rejected("damaged", "no frame of it can be decoded")
        end = _end(self.shown)
        order = None
        if self.clock == "order":
            times, end = self._order(end)
            first, order = times[0], tuple(float(when * base) for when in times)
        return Timeline(
            start=float(first * base),
            end=float(max(end, first) * base),
            tick=self.tick,
            clock=self.clock,
            keyframes=Keyframes(tuple(self.keys), tuple(float(when * base) for when in self.keys.values())),
            order=order,
        )

    def _order(self, end: int) -> tuple[list[int], int]:
        """When the n-th frame is shown, and the end of the last."""
        # An encoder that shows frames in another order delays them by as many packets as the decoder does: what goes
        # in at a packet's time comes out of it then. The last ones come out after the last packet.
        step = end - max(self.shown)[0]
        late = range(min(self.delay, len(self.shown)))
        times = [when for when, _ in self.shown[self.delay :]] + [end + step * number for number in late]
        return times, times[-1] + step


def _goes_back(before: int, after: int, base: Fraction) -> bool:
    """Whether a decoding time lies before the one that it follows, by more than rounding."""
    return float((before - after) * base) > 1.01 * ROUNDING


def _end(shown: list[tuple[int, int]]) -> int:
    """The end of the last frame; without a duration it is taken from the frame before."""
    (last, length), *others = sorted(shown, reverse=True)[:2]
    return last + (length or (last - others[0][0] if others else 0))


def _check_length(timeline: Timeline, container: InputContainer, stream: VideoStream) -> None:
    """Reject a file that is shorter than its header says."""
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
