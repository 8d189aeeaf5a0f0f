"""Decode packets as the ffmpeg program does, where its library alone behaves differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

_THEORA_HEADER = 0x80  # first bit of a header packet, which an Ogg file of several streams has in its middle


def decode_packet(packet: Packet) -> list[VideoFrame]:
    """The frames that the decoder gives for a packet, in presentation order.

    Raises:
        Exception: whatever the library raises for a packet that can't be decoded.
    """
    if repeats_frame(packet):
        return []
    try:
        return packet.decode()
    except Exception:
        if _is_theora_header(packet):  # the decoder takes it in, and says that it is no frame
            return []
        raise


def repeats_frame(packet: Packet) -> bool:
    """Whether a packet is empty, which repeats the previous frame (Theora) and which the decoder refuses."""
    return packet.size == 0 and not ends_stream(packet)


def ends_stream(packet: Packet) -> bool:
    """Whether it is the flush packet after the last, which drains the decoder."""
    return packet.size == 0 and packet.dts is None and packet.pts is None


def _is_theora_header(packet: Packet) -> bool:
    theora = packet.stream.codec_context.name in ("theora", "libtheora")
    return theora and packet.size > 0 and bool(bytes(packet)[0] & _THEORA_HEADER)
