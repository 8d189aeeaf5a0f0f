"""The video stream of a file that players show, where it holds several."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg's bits of a stream's disposition.
_DEFAULT = 0x1
_ATTACHED_PICTURE = 0x400  # a cover that poses as a video stream


def main_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream that is marked as the default, else the first one; None without any.

    Covers are no video streams.
    """
    videos = [each for each in container.streams.video if not int(each.disposition) & _ATTACHED_PICTURE]
    marked = [each for each in videos if int(each.disposition) & _DEFAULT]
    return next(iter(marked or videos), None)
