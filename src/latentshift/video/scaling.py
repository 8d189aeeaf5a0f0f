"""How pictures go between RGB and the YUV of video files."""

from __future__ import annotations


def careful() -> int:
    """swscale's careful way between RGB and YUV. Its default darkens by two levels and blurs colours (3 dB)."""
    from av.video.reformatter import Interpolation as Way

    return Way.BICUBIC | Way.ACCURATE_RND | Way.FULL_CHR_H_INT | Way.FULL_CHR_H_INP
