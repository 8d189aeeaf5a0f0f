"""A video file opened with FFmpeg: its container, its video stream, and the frames that a packet gives.

FFmpeg's errors on broken files become :class:`latentshift.data.rejected.Rejected`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from latentshift.data.footage.clip import MAX_PIXELS
from latentshift.data.rejected import Rejected, require_file
from latentshift.video import packets
from latentshift.video.main_stream import main_stream
from latentshift.video.metadata import reason

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@contextmanager
def open_video(
    file: str, offset: int | None = None, size: int | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file; gives its container and its video stream.

    Args:
        file: the file.
        offset: offset of the video in the file, in bytes; None for all of the file.
        size: length of the video, in bytes.

    Raises:
        Rejected: if it can't be read: here, or inside the block by an error of FFmpeg or the disk. Other errors inside
            the block are left as they are.
    """
    import av

    source = os.path.abspath(file)  # so that FFmpeg does not take "a:b.mp4" for a URL
    require_file(source)
    if offset is not None and size is not None:
        source = f"subfile,,start,{offset},end,{offset + size},,:{source}"
    try:
        container = av.open(source, options={"protocol_whitelist": "file,subfile"}, metadata_errors="ignore")
    except Exception as error:
        raise Rejected("damaged", f"it can't be opened as a video: {reason(error)}") from error
    with container:
        video = main_stream(container)
        if video is None:
            raise Rejected("no-video", "it holds no video")
        context = video.codec_context
        if context is None:
            raise Rejected("damaged", "no decoder knows its kind of video")
        if context.width * context.height > MAX_PIXELS:
            raise Rejected("too-large", f"its frames are {context.width}x{context.height} pixels")
        context.thread_count = 1
        if video.metadata.get("alpha_mode") == "1":
            raise Rejected("transparent", "it has a fourth channel, which its decoder leaves out")
        try:
            yield container, video
        except (Rejected, MemoryError):
            raise
        except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:  # of seeking, reading and converting
            raise Rejected("damaged", f"it can't be read: {reason(error)}") from error


def decode_packet(packet: Packet) -> list[VideoFrame]:
    """The frames that the decoder gives for a packet, in presentation order.

    Raises:
        Rejected: for a packet that can't be decoded, or a frame that the decoder marks as damaged.
    """
    try:
        frames = packets.decode_packet(packet)
    except MemoryError:
        raise
    except Exception as error:  # decoders of broken files raise nearly anything
        raise Rejected("damaged", f"it can't be decoded: {reason(error)}") from error
    for frame in frames:
        if frame.is_corrupt:
            at = "" if frame.time is None else f" at {frame.time:.2f} s"
            raise Rejected("damaged", f"its frame{at} is damaged")
    return frames
